"""What the page shows beyond jobs as they are; `whole.DaemonInsight` is what the web layer is given."""
