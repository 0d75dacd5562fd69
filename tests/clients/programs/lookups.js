// Looks names up with Node.js, as an application under way does: lookups.js lookup|resolve SECONDS
// EVERY_MS NAME... `lookup` is dns.lookup, getaddrinfo in a pool of threads; `resolve` is
// dns.resolve, c-ares, which knows no search list. A loop for each name; each asks for all of them
// in turn. `%` in a name is a number that counts up. A line for each lookup that failed, with its
// time, and at the end the sums as JSON.

const dns = require('node:dns').promises;

// How long lookups may go on after the end; those that still do have failed.
const GRACE_S = 10;
// Numbers in names begin again from here on.
const NUMBERS = 200;

const [way, seconds, everyMs, ...names] = process.argv.slice(2);
const find = { lookup: (name) => dns.lookup(name, { all: true }), resolve: dns.resolve }[way];
const every = Number(everyMs) / 1000;
const now = () => Date.now() / 1000;
const sleep = (time) => new Promise((done) => setTimeout(done, Math.max(0, time * 1000)));
const end = now() + Number(seconds);

let [lookups, failed, busy, numbers, lastFailure, slowest] = [0, 0, names.length, 0, 0, 0];

async function lookUp(name) {
  const begun = now();
  const error = await find(name).then(() => null, (error) => error);
  const ended = now();
  lookups += 1;
  slowest = Math.max(slowest, ended - begun);
  if (error === null) return;
  failed += 1;
  lastFailure = ended;
  const took = (ended - begun).toFixed(3);
  console.log(`failed ${ended.toFixed(3)} ${name} after ${took} s: ${error.message}`);
}

async function ask(next) {
  let due = now() + (every * next) / names.length;
  for (;;) {
    await sleep(due - now());
    if (now() >= end) break;
    await lookUp(names[next++ % names.length].replace('%', () => numbers++ % NUMBERS));
    due = Math.max(due + every, now());
  }
  busy -= 1;
}

function tell() {
  if (busy > 0) [lastFailure, slowest] = [now(), GRACE_S];
  const sums = { lookups: lookups + busy, failed: failed + busy };
  console.log(JSON.stringify({ ...sums, last_failure_s: lastFailure, slowest_s: slowest }));
}

async function main() {
  const all = Promise.all(names.map((_, at) => ask(at)));
  await Promise.race([all, sleep(end + GRACE_S - now())]);
  tell();
  // What still waits would keep it alive.
  process.exit(0);
}

main();
