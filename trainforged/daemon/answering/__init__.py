"""What clients are answered: requests become events, memory and storage become answers."""
