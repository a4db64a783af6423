"""One typed client, one live view and one cancel button for every place that runs a job."""
