"""Coverage tasks, whose return is a monotone submodular function of the places visited."""
