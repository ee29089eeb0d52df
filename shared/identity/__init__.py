"""Who the app is: the secret in Key Vault, the credentials, the token for Defender and what is in it."""
