// A GCC High tenant, deployed to Azure Government. The registrations are made by hand there (docs/infrastructure.md), and
// with a client secret: which audience a federated credential has in this cloud is not documented.
using '../main.bicep'

param name = 'relaygov'
param credential = 'secret'
param cloud = 'gcc-high'
param relayClientId = '99999999-9999-4999-8999-999999999999'
param authMode = 'easy-auth'
param apiClientId = 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'
param lock = true
param actionGroupEmails = ['soc@contoso.example']
param tags = {
  product: 'defender-indicator-relay'
  stage: 'gcc-high'
}
