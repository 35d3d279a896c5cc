"""procrastinate: ADDRESS JOBS AT_A_TIME noop|single"""

import asyncio
import os
import sys
import time

import procrastinate
import psycopg

ADDRESS, JOBS, AT_A_TIME, MODE = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
SCHEMA = f"bench_procrastinate_{os.getpid()}"

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(
        conninfo=ADDRESS,
        kwargs={"options": f"-c search_path={SCHEMA}"},
        min_size=4,
        max_size=AT_A_TIME + 4,
    )
)
done = 0


@app.task(name="noop")
async def noop(number):
    global done
    done += 1


def tell(began):
    print(f"seconds {JOBS} {time.perf_counter() - began}", flush=True)


async def callers():
    numbers = iter(range(JOBS))

    async def caller():
        for number in numbers:
            await noop.defer_async(number=number)

    await asyncio.gather(*(caller() for _ in range(AT_A_TIME)))


async def work():
    for start in range(0, JOBS, 1000):
        some = ({"number": number} for number in range(start, min(start + 1000, JOBS)))
        await noop.batch_defer_async(*some)
    began = time.perf_counter()
    worker = asyncio.create_task(
        app.run_worker_async(concurrency=AT_A_TIME, install_signal_handlers=False)
    )
    left = "select count(*) as count from procrastinate_jobs where status <> 'succeeded'"
    while done < JOBS or (await app.connector.execute_query_one_async(left))["count"]:
        await asyncio.sleep(0.002)
    tell(began)
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)


async def main():
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        if MODE == "single":
            began = time.perf_counter()
            await callers()
            tell(began)
        else:
            await work()


with psycopg.connect(ADDRESS, autocommit=True) as admin:
    admin.execute(f"create schema {SCHEMA}")
    try:
        asyncio.run(main())
    finally:
        admin.execute(f"drop schema {SCHEMA} cascade")
