"""The devices. Each module synchronises, times and identifies one kind of device, and reads its memory."""
