"""A referee for anyone's decode loop: is what it writes distributed as y, and if not, which known defect is it?"""
