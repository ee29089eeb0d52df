metadata name = 'Private endpoint'
metadata description = 'An address in the network for one service of one resource, and its DNS entry.'

@description('Name of the endpoint.')
param name string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('Subnet of the endpoints.')
param subnetId string

@description('Resource that is reached.')
param targetId string

@description('Service of it: blob, queue, table, vault, sites.')
param group string

@description('Private DNS zone in this resource group; empty: the organisation\'s own automation makes the entry.')
param zone string

resource endpoint 'Microsoft.Network/privateEndpoints@2024-05-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    subnet: { id: subnetId }
    privateLinkServiceConnections: [
      {
        name: name
        properties: { privateLinkServiceId: targetId, groupIds: [group] }
      }
    ]
  }

  resource entry 'privateDnsZoneGroups' = if (!empty(zone)) {
    name: 'default'
    properties: {
      privateDnsZoneConfigs: [
        {
          name: group
          properties: { privateDnsZoneId: resourceId('Microsoft.Network/privateDnsZones', zone) }
        }
      ]
    }
  }
}
