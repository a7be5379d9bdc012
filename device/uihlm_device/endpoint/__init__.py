"""An OpenAI-compatible HTTP endpoint on the device: any program that speaks that protocol talks to the split model."""
