"""Package, deploy, verify and remove the app: the code behind the scripts of these names."""
