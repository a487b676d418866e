// A peer of figure-peers: rate-limiter-flexible's limiter in the memory of one process.
//
// Standard input: as peer.lua's.
'use strict';
const readline = require('readline');
const { RateLimiterMemory } = require('rate-limiter-flexible');

const limiter = new RateLimiterMemory({ points: 1e9, duration: 60 });

async function round(keys, order, calls) {
  const start = process.hrtime.bigint();
  for (let i = 0; i < calls; i++) await limiter.consume(keys[order[i % order.length]]);
  return process.hrtime.bigint() - start;
}

async function main() {
  const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const line = async () => (await lines.next()).value;
  const list = async (convert) => {
    const all = [];
    for (let left = Number(await line()); left > 0; left--) all.push(convert(await line()));
    return all;
  };
  const keys = await list(String);
  const order = await list(Number);
  for (let calls = await line(); calls !== undefined; calls = await line())
    process.stdout.write(`${await round(keys, order, Number(calls))}\n`);
  process.exit(0);
}

main();
