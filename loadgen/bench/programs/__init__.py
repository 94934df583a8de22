"""Scripts that are measured, or that measure, each as a process of its own."""
