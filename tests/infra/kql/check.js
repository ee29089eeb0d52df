// Reads {"tables": {name: {column: type}}, "queries": {name: text}} from standard input and prints, for each query, what
// Microsoft's own parser and binder say of it, and the columns of its result.
//   node check.js FOLDER-OF-THE-LANGUAGE-SERVICE
const path = require("path");
const folder = path.resolve(process.argv[2]);
require(path.join(folder, "bridge.min.js")); // the runtime comes first
require(path.join(folder, "Kusto.Language.Bridge.min.js")); // defines Kusto
const { KustoCode, GlobalState, Symbols } = Kusto.Language;

const asked = JSON.parse(require("fs").readFileSync(0, "utf8"));
const tables = Object.entries(asked.tables).map(([name, columns]) =>
  Symbols.TableSymbol.From(
    "(" + Object.entries(columns).map(([column, type]) => `['${column}']:${type}`).join(", ") + ")",
  ).WithName(name),
);
const state = GlobalState.Default.WithDatabase(new Symbols.DatabaseSymbol.$ctor2("workspace", null, tables, false));

const told = {};
for (const [name, text] of Object.entries(asked.queries)) {
  const code = KustoCode.ParseAndAnalyze(text, state);
  const found = code.GetDiagnostics();
  const said = [];
  for (let at = 0; at < found.Count; at++) {
    const one = found.getItem(at);
    said.push(`${one.Severity} ${one.Code} at ${one.Start}: ${one.Message}`);
  }
  const columns = {};
  const result = code.ResultType;
  for (let at = 0; result && result.Columns && at < result.Columns.Count; at++) {
    columns[result.Columns.getItem(at).Name] = result.Columns.getItem(at).Type.Name;
  }
  told[name] = { said, columns };
}
console.log(JSON.stringify(told));
