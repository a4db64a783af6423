"""The reference server of hpcjobs."""
