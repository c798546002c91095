"""Following what attempts write: records, TensorBoard's event files, and what they print."""
