"""What running attempts do, seen from outside: /proc, sockets, stacks and the kernel's log."""
