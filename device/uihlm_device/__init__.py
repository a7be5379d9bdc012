"""The device: drafters, uncertainty, importance, policies, the decode loop and the client."""
