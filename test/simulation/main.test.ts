/** The program that plays many seeds says what it played, also when it or a job of it is ended. */
import { type ChildProcess, spawn } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterEach, expect, it } from 'vitest'
import { until } from '../engine-world.ts'

const started: ChildProcess[] = []
afterEach(() => {
  for (const node of started.splice(0)) node.kill('SIGKILL')
})

function simulate(...args: string[]) {
  const program = join(import.meta.dirname, 'main.ts')
  const node = spawn(process.execPath, ['--conditions=sluice-source', program, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  started.push(node)
  const code = new Promise<number | null>((resolve) => node.once('exit', resolve))
  // Both stay open until its jobs have ended, too.
  const said = Promise.all([code, text(node.stdout), text(node.stderr)])
  return {
    node,
    said: said.then(([code, out, err]) => ({ code, out, err: err.replace(/^.*Warning.*$/gm, '').trim() })),
  }
}

/** The id of the process that plays for it. */
async function jobOf(pid: number): Promise<number> {
  let jobs = ''
  await until('a job', async () => {
    jobs = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')
    return jobs !== ''
  })
  return Number(jobs.split(' ')[0])
}

it('plays all that it is asked for', async () => {
  expect(await simulate('--seeds', '60', '--from', '7', '--jobs', '2').said).toEqual({
    code: 0,
    out: expect.stringMatching(/^60 seeds from 7: 0 violations in [\d.]+ s\n$/),
    err: '',
  })
})

it.each(['SIGTERM', 'SIGINT'] as const)('ended by %s it says what was played by then', async (signal) => {
  const { node, said } = simulate('--seeds', '100000000')
  await jobOf(node.pid!)
  node.kill(signal)
  expect(await said).toEqual({
    code: 1,
    out: expect.stringMatching(
      new RegExp(`^\\d+ seeds from 1: 0 violations in [\\d.]+ s; ended early, of 100000000: ${signal}\n$`),
    ),
    err: '',
  })
})

it('says that a job ended, and that its seeds were not played', async () => {
  const { node, said } = simulate('--seeds', '1999', '--from', '5')
  process.kill(await jobOf(node.pid!), 'SIGKILL')
  expect(await said).toEqual({
    code: 1,
    out: expect.stringMatching(
      /^0 seeds from 5: 0 violations in [\d.]+ s; ended early, of 1999: a job ended with SIGKILL within the seeds from 5\n$/,
    ),
    err: '',
  })
})

it('a job whose program is gone ends without a word', async () => {
  const { node, said } = simulate('--seeds', '300')
  await jobOf(node.pid!)
  node.kill('SIGKILL')
  expect(await said).toEqual({ code: null, out: '', err: '' })
})
