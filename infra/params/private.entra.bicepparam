using '../entra.bicep'

param name = 'relaypriv'
param credential = 'secret'
param authMode = 'easy-auth'
