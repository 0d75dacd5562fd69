// Looks up each argument with c-ares as Node.js has it, A and AAAA at once, one name after the
// other. For each a line: `ok` and the addresses, or how the application hears that it failed.

const { Resolver } = require('node:dns').promises;

const DENIALS = ['ENOTFOUND', 'ENODATA'];

async function main(names) {
  const resolver = new Resolver();
  for (const name of names) {
    const both = await Promise.allSettled([resolver.resolve4(name), resolver.resolve6(name)]);
    const addresses = both.flatMap((one) => one.value ?? []);
    const codes = both.filter((one) => one.reason).map((one) => one.reason.code);
    if (addresses.length > 0) console.log('ok', ...addresses);
    else if (codes.every((code) => DENIALS.includes(code))) console.log('unknown-host', ...codes);
    else console.log('try-again', ...codes);
  }
}

main(process.argv.slice(2));
