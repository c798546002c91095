"""The panes of the view. Each makes its heading and its rows, all of the width asked for. Pure."""
