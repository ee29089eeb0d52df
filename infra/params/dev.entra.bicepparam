using '../entra.bicep'

param name = 'relaydev'
param credential = 'secret'
param authMode = 'keys'
