metadata name = 'Identifier URI of the API'
metadata description = 'Writes the identifier URI into a registration that exists; nothing else of it is changed.'

extension microsoftGraphV1

@description('Unique name of the registration.')
param uniqueName string

@description('Its display name, which the extension wants at every writing.')
param displayName string

@description('Its client id.')
param appId string

resource app 'Microsoft.Graph/applications@v1.0' = {
  uniqueName: uniqueName
  displayName: displayName
  identifierUris: ['api://${appId}']
}

output appId string = app.appId
