"""`tfctl top`: the live view.

Two threads bring messages (`source`), the main thread owns everything else: what is known of the
daemon (`known`), what the person at the keys chose (`control`), and the lines that both make
(`frame` and the panes, all pure). `terminal` and `painter` put the lines on the screen, `app` holds it
together.
"""
