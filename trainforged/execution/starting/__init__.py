"""What an attempt is started with and in: its command, its library and port, its unit or control group."""
