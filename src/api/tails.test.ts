import { expect, it, onTestFinished } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { newRunId, taskIdOf } from '../core/ids.ts'
import { statement } from '../ports/database.ts'
import { appendLogs } from '../store/logs.ts'
import { openTails } from './tails.ts'

const run = newRunId(1_770_000_000_000, () => 0.999999)
const other = newRunId(1_770_000_000_001, () => 0.3)
const forever = new AbortController().signal

const loseListeners = statement(
  'test.lose-listeners',
  `select pg_terminate_backend(pid) from pg_stat_activity where application_name like '% listen' and datname = current_database()`,
)

async function tailsOfTest(most = 4) {
  const { db, drop } = await testDatabase()
  const tails = openTails(db, most)
  onTestFinished(async () => {
    await tails.close()
    await drop()
  })
  return { db, tails }
}

const write = (db: Awaited<ReturnType<typeof tailsOfTest>>['db'], source: string) =>
  appendLogs(db, [{ source, attempt: 1, seq: 0, lines: '{}\n' }])

it('wakes who follows a task or its run, and nobody else', async () => {
  const { db, tails } = await tailsOfTest()
  const task = taskIdOf(run, 5, 3)
  const [ofTask, ofRun, ofOther] = [await tails.follow(task), await tails.follow(run), await tails.follow(other)]
  const woken: string[] = []
  const mark = (name: string) => () => woken.push(name)
  const waits = [ofTask.news(60_000, forever).then(mark('task')), ofRun.news(60_000, forever).then(mark('run'))]
  const wakeOther = new AbortController()
  const last = ofOther.news(60_000, wakeOther.signal).then(mark('other'))
  await write(db, task)
  await Promise.all(waits)
  expect(woken.sort()).toEqual(['run', 'task'])
  wakeOther.abort()
  await last
})

it('keeps news that came while nobody waited', async () => {
  const { db, tails } = await tailsOfTest()
  const [first, second] = [await tails.follow(run), await tails.follow(run)]
  await Promise.all([first.news(60_000, forever), write(db, taskIdOf(run, 0, -1))])
  await second.news(60_000, forever)
})

it('makes everybody look again after the connection was lost', async () => {
  const { db, tails } = await tailsOfTest()
  const tail = await tails.follow(run)
  const news = tail.news(60_000, forever)
  await db.execute(loseListeners)
  await news
})

it('lets only so many follow at once', async () => {
  const { tails } = await tailsOfTest(2)
  const first = await tails.follow(run)
  await tails.follow(run)
  await expect(tails.follow(run)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  first.close()
  first.close()
  await tails.follow(other)
  await expect(tails.follow(run)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
})
