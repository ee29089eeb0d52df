metadata name = 'Workbook'
metadata description = 'One page on how publishing goes, from the same metrics and log lines as the alerts.'

@description('Short name of the deployment.')
param name string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('Workspace with metrics and logs.')
param workspaceId string

@description('Function app, whose name they carry.')
param appName string

@description('Whether the app uses a client secret.')
param withSecret bool

var charts = concat(
  [
    { title: 'Published, by type and action', kind: 'barchart', query: loadTextContent('../kql/book-published.kql') }
    { title: 'Published, by source, type and action', kind: 'table', query: loadTextContent('../kql/book-sources.kql') }
    { title: 'Rejected, and why', kind: 'barchart', query: loadTextContent('../kql/book-refused.kql') }
    { title: 'Put off, and why', kind: 'barchart', query: loadTextContent('../kql/book-deferred.kql') }
    { title: 'Time to publish, in seconds', kind: 'timechart', query: loadTextContent('../kql/book-time.kql') }
    { title: 'What waits', kind: 'timechart', query: loadTextContent('../kql/book-waiting.kql') }
    { title: 'Calls a minute; 30 imports are the limit', kind: 'timechart', query: loadTextContent('../kql/book-calls.kql') }
    { title: 'Answers of Defender', kind: 'table', query: loadTextContent('../kql/book-answers.kql') }
    { title: 'How full the tenant is, in percent', kind: 'timechart', query: loadTextContent('../kql/book-capacity.kql') }
    { title: 'Alarms', kind: 'table', query: loadTextContent('../kql/book-alarms.kql') }
  ],
  withSecret
    ? [{ title: 'Days until the secret expires', kind: 'table', query: loadTextContent('../kql/book-secret.kql') }]
    : []
)

var heading = [
  {
    type: 1
    name: 'heading'
    content: { json: '## Defender Indicator Relay: ${appName}\n\n*Accepted* is Defender\'s word; devices follow within hours. What each figure means: docs/operate.md.' }
  }
  {
    type: 9
    name: 'parameters'
    content: {
      version: 'KqlParameterItem/1.0'
      style: 'pills'
      queryType: 0
      resourceType: 'microsoft.operationalinsights/workspaces'
      parameters: [
        {
          id: guid(name, 'Period')
          version: 'KqlParameterItem/1.0'
          name: 'Period'
          type: 4
          isRequired: true
          value: { durationMs: 86400000 }
          typeSettings: {
            allowCustom: true
            selectableValues: [
              { durationMs: 3600000 }
              { durationMs: 14400000 }
              { durationMs: 86400000 }
              { durationMs: 604800000 }
              { durationMs: 2592000000 }
            ]
          }
        }
      ]
    }
  }
]

var items = [
  for (chart, index) in charts: {
    type: 3
    name: 'chart-${index}'
    customWidth: '50'
    content: {
      version: 'KqlItem/1.0'
      title: chart.title
      query: replace(chart.query, '{app}', appName)
      size: 0
      visualization: chart.kind
      noDataMessage: 'Nothing in this period.'
      queryType: 0
      resourceType: 'microsoft.operationalinsights/workspaces'
      crossComponentResources: [workspaceId]
      timeContextFromParameter: 'Period'
    }
  }
]

resource book 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, name, 'workbook')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'Defender Indicator Relay (${appName})'
    description: 'How publishing of indicators goes.'
    category: 'workbook'
    sourceId: workspaceId
    version: 'Notebook/1.0'
    serializedData: string({
      version: 'Notebook/1.0'
      items: concat(heading, items)
      fallbackResourceIds: [workspaceId]
    })
  }
}

output id string = book.id
