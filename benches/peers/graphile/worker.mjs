// graphile-worker: ADDRESS JOBS AT_A_TIME noop|batched|single|many
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import pg from "pg";

const [connectionString, jobsText, atATimeText, mode] = process.argv.slice(2);
const jobs = Number(jobsText);
const atATime = Number(atATimeText);
const schema = `bench_graphile_${process.pid}`;
const logger = new Logger(() => () => {});
const pgPool = new pg.Pool({ connectionString, max: Math.min(atATime + 4, 60) });
pgPool.on("error", () => {});
pgPool.on("connect", (client) => client.on("error", () => {}));

function tell(seconds) {
  console.log(`seconds ${jobs} ${seconds}`);
}

async function fill(utils) {
  for (let from = 0; from < jobs; from += 1000) {
    const count = Math.min(1000, jobs - from);
    const some = Array.from({ length: count }, (_, i) => ({
      identifier: "noop",
      payload: { number: from + i },
    }));
    await utils.addJobs(some);
  }
}

async function callers(utils) {
  let next = 0;
  const caller = async () => {
    while (next < jobs) await utils.addJob("noop", { number: next++ });
  };
  await Promise.all(Array.from({ length: atATime }, caller));
}

async function work() {
  let done = 0;
  let finished;
  const all = new Promise((resolve) => (finished = resolve));
  const worker =
    mode === "batched"
      ? { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 }
      : {};
  const began = performance.now();
  const runner = await run({
    pgPool,
    schema,
    logger,
    noHandleSignals: true,
    concurrency: atATime,
    preset: {
      worker: { schema, concurrentJobs: atATime, pollInterval: 2000, ...worker },
    },
    taskList: { noop: () => { if (++done === jobs) finished(); } },
  });
  await all;
  // Finished jobs are deleted: until none is left, not all ends are stored.
  for (;;) {
    const left = await pgPool.query(`select 1 from ${schema}._private_jobs limit 1`);
    if (left.rowCount === 0) break;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  tell((performance.now() - began) / 1000);
  await runner.stop();
}

const utils = await makeWorkerUtils({ pgPool, schema, logger });
try {
  await utils.migrate();
  const began = performance.now();
  if (mode === "single") {
    await callers(utils);
    tell((performance.now() - began) / 1000);
  } else {
    await fill(utils);
    if (mode === "many") tell((performance.now() - began) / 1000);
    else await work();
  }
} finally {
  await utils.release();
  await pgPool.query(`drop schema if exists ${schema} cascade`);
  await pgPool.end();
}
process.exit(0);
