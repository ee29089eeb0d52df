// Loaded into Azurite's process before Azurite itself (node --require).
//
// 1. Azurite's queue store looks through every message of an account at each call: with 13,000 messages a delete takes
//    30 ms, and a benchmark would measure nothing else. Here the messages are kept in a map and a heap; what a caller
//    sees is the same (tests/contract/test_local_azurite.py holds the two against each other).
// 2. Azurite sweeps away the contents of deleted messages once a minute, and each removal sorts an index of all others
//    anew: with some thousand messages it answers nobody for a minute. It also forgets to spare what is being written.
//    Here contents are kept in a map, and spared for the ten minutes that Azurite means to.
// 3. Azurite's table store looks through all rows of a table at each query, and keeps two sorted lists of all keys, so
//    that a write costs the more, the more rows there are. Here rows are kept in a map for each partition, and a query
//    that names a partition looks at that one alone; conditions are still judged by Azurite itself.
// 4. Azurite ends when the process that started it is gone, however that came about.
// 5. Requests are counted by service, method and resource where they arrive; GET /_counts on any of the ports tells
//    them, and is not counted itself.
"use strict";

const http = require("http");

const path = require("path");

if (process.env.RELAY_LOCAL_WATCH_STDIN === "1") {
  process.stdin.on("end", () => process.exit(0));
  process.stdin.on("error", () => process.exit(0));
  process.stdin.resume();
  process.stdin.unref(); // it must not keep Azurite alive after SIGTERM
}

const counts = {};
const services = {};
for (const kind of ["blob", "queue", "table"]) {
  const place = process.argv.indexOf(`--${kind}Port`);
  if (place > 0) services[process.argv[place + 1]] = kind;
}
const emit = http.Server.prototype.emit;
http.Server.prototype.emit = function (event, request, response) {
  if (event !== "request") return emit.apply(this, arguments);
  if (request.url === "/_counts") {
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify(counts));
    return true;
  }
  // /account/resource/...: a queue, a container, or a table with its key in brackets; $batch is a transaction.
  const resource = (request.url.split("?")[0].split("/")[2] || "").split("(")[0];
  const name = `${services[request.socket.localPort] || "other"} ${request.method} ${resource}`;
  counts[name] = (counts[name] || 0) + 1;
  return emit.apply(this, arguments);
};

class Shelf {
  // The messages of one queue: by id, and a heap by (time of next visibility, order of arrival). An entry of the heap is
  // stale when its message is gone or has moved on; it is dropped when it comes to the top.
  constructor() {
    this.byId = new Map();
    this.heap = [];
    this.nextExpiry = Infinity;
  }

  static before(a, b) {
    return a.at < b.at || (a.at === b.at && a.order < b.order);
  }

  push(doc) {
    const heap = this.heap;
    const entry = { at: doc.timeNextVisible, order: doc.$loki, doc };
    let place = heap.length;
    heap.push(entry);
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (!Shelf.before(entry, heap[parent])) break;
      heap[place] = heap[parent];
      place = parent;
    }
    heap[place] = entry;
  }

  pop() {
    const heap = this.heap;
    const top = heap[0];
    const last = heap.pop();
    if (heap.length > 0) {
      let place = 0;
      for (;;) {
        let child = 2 * place + 1;
        if (child >= heap.length) break;
        if (child + 1 < heap.length && Shelf.before(heap[child + 1], heap[child])) child += 1;
        if (!Shelf.before(heap[child], last)) break;
        heap[place] = heap[child];
        place = child;
      }
      heap[place] = last;
    }
    return top;
  }

  add(doc) {
    this.byId.set(doc.messageId, doc);
    this.nextExpiry = Math.min(this.nextExpiry, doc.expirationTime.getTime());
    this.push(doc);
  }

  // Up to `count` messages that are visible at `now`, in order; the caller puts them back with push.
  take(count, now) {
    const taken = [];
    while (taken.length < count && this.heap.length > 0 && this.heap[0].at <= now) {
      const entry = this.pop();
      if (this.byId.get(entry.doc.messageId) === entry.doc && entry.doc.timeNextVisible === entry.at) taken.push(entry.doc);
    }
    return taken;
  }

  expire(now) {
    if (now < this.nextExpiry) return;
    this.nextExpiry = Infinity;
    for (const [id, doc] of this.byId) {
      const at = doc.expirationTime.getTime();
      if (at <= now) this.byId.delete(id);
      else this.nextExpiry = Math.min(this.nextExpiry, at);
    }
  }
}

function install(store, errors) {
  const shelves = new WeakMap(); // store -> Map(account/queue -> Shelf)
  let order = 0;

  function all(self) {
    if (!shelves.has(self)) shelves.set(self, new Map());
    return shelves.get(self);
  }

  function shelf(self, account, queue, context) {
    self.checkQueueExist(account, queue, context);
    const key = `${account}/${queue}`;
    let found = all(self).get(key);
    if (found === undefined) {
      found = new Shelf();
      all(self).set(key, found);
    }
    found.expire(Date.now());
    return found;
  }

  function owned(self, account, queue, id, receipt, context) {
    const found = shelf(self, account, queue, context);
    const doc = found.byId.get(id);
    const request = context ? context.contextID : undefined;
    if (doc === undefined) throw errors.getMessageNotFound(request);
    if (doc.popReceipt !== receipt) throw errors.getPopReceiptMismatch(request);
    return [found, doc];
  }

  function copyOf(self, doc) {
    return self.messageCopy({ ...doc, timeNextVisible: new Date(doc.timeNextVisible) });
  }

  const methods = store.prototype;
  const deleteQueue = methods.deleteQueue;

  methods.deleteQueue = async function (account, queue, context) {
    await deleteQueue.call(this, account, queue, context);
    all(this).delete(`${account}/${queue}`);
  };
  methods.getMessagesCount = async function (account, queue, context) {
    return shelf(this, account, queue, context).byId.size;
  };
  methods.insertMessage = async function (message, context) {
    const doc = this.messageCopy(message);
    doc.timeNextVisible = message.timeNextVisible.getTime();
    doc.$loki = order += 1;
    shelf(this, message.accountName, message.queueName, context).add(doc);
  };
  methods.peekMessages = async function (account, queue, count, at, context) {
    const found = shelf(this, account, queue, context);
    const docs = found.take(count === undefined ? 1 : count, at ? at.getTime() : Date.now());
    docs.forEach((doc) => found.push(doc));
    return docs.map((doc) => copyOf(this, doc));
  };
  methods.getMessages = async function (account, queue, visible, receipt, count, at, context) {
    const found = shelf(this, account, queue, context);
    const docs = found.take(count === undefined || count < 1 ? 1 : count, at ? at.getTime() : Date.now());
    for (const doc of docs) {
      doc.timeNextVisible = visible.getTime();
      doc.popReceipt = receipt;
      doc.dequeueCount = Number(doc.dequeueCount) + 1;
      found.push(doc);
    }
    return docs.map((doc) => copyOf(this, doc));
  };
  methods.deleteMessage = async function (account, queue, id, receipt, context) {
    const [found] = owned(this, account, queue, id, receipt, context);
    found.byId.delete(id);
  };
  methods.updateMessage = async function (message, receipt, context) {
    const [found, doc] = owned(this, message.accountName, message.queueName, message.messageId, receipt, context);
    doc.popReceipt = message.popReceipt;
    doc.timeNextVisible = message.timeNextVisible.getTime();
    if (message.persistency !== undefined) doc.persistency = message.persistency;
    found.push(doc);
  };
  methods.clearMessages = async function (account, queue, context) {
    shelf(this, account, queue, context);
    all(this).delete(`${account}/${queue}`);
  };
  methods.listMessages = async function (most, marker) {
    const docs = [];
    for (const found of all(this).values()) {
      for (const doc of found.byId.values()) if (marker === undefined || doc.$loki > marker) docs.push(doc);
    }
    docs.sort((a, b) => a.$loki - b.$loki);
    const limit = most === undefined ? 5000 : most;
    return docs.length < limit ? [docs, undefined] : [docs.slice(0, limit), docs[limit - 1].$loki];
  };
}

function installExtents(store) {
  const extents = new WeakMap(); // store -> Map(id -> extent), in order of arrival
  let order = 0;

  function all(self) {
    if (!extents.has(self)) extents.set(self, new Map());
    return extents.get(self);
  }

  const methods = store.prototype;
  methods.updateExtent = async function (extent) {
    const found = all(this).get(extent.id);
    if (found === undefined) {
      all(this).set(extent.id, { ...extent, $loki: (order += 1) });
      return;
    }
    found.size = extent.size;
    found.lastModifiedInMS = extent.lastModifiedInMS;
  };
  methods.listExtents = async function (id, most, marker, at, spared) {
    const before = at === undefined ? Infinity : at.getTime() - (spared === undefined ? 0 : spared);
    const limit = most === undefined ? 5000 : most;
    const docs = [];
    for (const doc of all(this).values()) {
      if (docs.length === limit) break;
      if (id !== undefined && doc.id !== id) continue;
      if ((marker === undefined || doc.$loki > marker) && doc.lastModifiedInMS < before) docs.push(doc);
    }
    return [docs, docs.length < limit ? undefined : docs[docs.length - 1].$loki];
  };
  methods.deleteExtent = async function (id) {
    all(this).delete(id);
  };
  methods.getExtentLocationId = async function (id) {
    return all(this).get(id).locationId;
  };
}

class Entities {
  // The rows of one table: partition -> RowKey -> row.
  constructor() {
    this.partitions = new Map();
    this.order = 0;
  }

  find(partition, key) {
    const rows = this.partitions.get(partition);
    const found = rows === undefined ? undefined : rows.get(key);
    return found === undefined ? null : found;
  }

  put(doc) {
    let rows = this.partitions.get(doc.PartitionKey);
    if (rows === undefined) {
      rows = new Map();
      this.partitions.set(doc.PartitionKey, rows);
    }
    if (doc.$loki === undefined) doc.$loki = this.order += 1;
    rows.set(doc.RowKey, doc);
    return doc;
  }

  drop(doc) {
    const rows = this.partitions.get(doc.PartitionKey);
    if (rows === undefined) return;
    rows.delete(doc.RowKey);
    if (rows.size === 0) this.partitions.delete(doc.PartitionKey);
  }

  // The rows that can meet a filter: of one partition and between two RowKeys, where it says so by conditions that all
  // must hold; else all of them.
  *candidates(filter) {
    const text = "'((?:[^']|'')*)'";
    const all = typeof filter === "string" && !/\b(or|not)\b/i.test(filter.replace(new RegExp(text, "g"), "''"));
    const named = (pattern) => {
      const found = all ? new RegExp(`\\b${pattern} ${text}`).exec(filter) : null;
      return found === null ? undefined : found[1].replace(/''/g, "'");
    };
    const partition = named("PartitionKey eq");
    const from = named("RowKey ge");
    const to = named("RowKey lt");
    const groups = partition === undefined ? this.partitions.values() : [this.partitions.get(partition) || new Map()];
    for (const rows of groups) {
      for (const doc of rows.values()) {
        if ((from === undefined || doc.RowKey >= from) && (to === undefined || doc.RowKey < to)) yield doc;
      }
    }
  }
}

function installEntities(store, generator) {
  const tables = new WeakMap(); // collection -> Entities
  const before = (a, b) => {
    if (a.PartitionKey !== b.PartitionKey) return a.PartitionKey < b.PartitionKey ? -1 : 1;
    if (a.RowKey === b.RowKey) return 0;
    return a.RowKey < b.RowKey ? -1 : 1;
  };
  const methods = store.prototype;
  const create = methods.createCollectionForTable;

  methods.createCollectionForTable = function (table) {
    create.call(this, table);
    const collection = this.db.getCollection(this.getTableCollectionName(table.account, table.table));
    const entities = new Entities();
    tables.set(collection, entities);
    collection.findOne = (query) => entities.find(query.PartitionKey, query.RowKey);
    collection.insert = (doc) => entities.put(doc);
    collection.update = (doc) => entities.put(doc);
    collection.remove = (doc) => entities.drop(doc);
  };
  methods.queryTableEntities = async function (context, account, table, options, nextPartition, nextKey) {
    const entities = tables.get(this.getEntityCollection(account, table, context));
    const meets = generator.generateQueryForPersistenceLayer(options, context);
    const most = this.getMaxResultsOption(options);
    const next = {
      PartitionKey: this.decodeContinuationHeader(nextPartition),
      RowKey: this.decodeContinuationHeader(nextKey) || "",
    };
    const found = [];
    for (const doc of entities.candidates(options.filter)) {
      if ((next.PartitionKey === undefined || before(doc, next) >= 0) && meets(doc)) found.push(doc);
    }
    found.sort(before);
    found.length = Math.min(found.length, most + 1);
    const more = this.adjustQueryResultforTop(found, most);
    return [found, more.nextPartitionKeyResponse, more.nextRowKeyResponse];
  };
}

if (process.env.RELAY_LOCAL_PLAIN_AZURITE !== "1") {
  const queue = path.join(path.dirname(process.argv[1]), "queue");
  install(
    require(path.join(queue, "persistence", "LokiQueueMetadataStore")).default,
    require(path.join(queue, "errors", "StorageErrorFactory")).default,
  );
  const table = path.join(path.dirname(process.argv[1]), "table", "persistence");
  installEntities(
    require(path.join(table, "LokiTableMetadataStore")).default,
    require(path.join(table, "LokiTableStoreQueryGenerator")).default,
  );
  const common = path.join(path.dirname(process.argv[1]), "common", "persistence");
  installExtents(require(path.join(common, "LokiExtentMetadataStore")).default);
}
