/** The workflow folder of a deployment, as it is: built, started by hand through the command line, and read from its log. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type Project, type RunningSluice, sluice, sluiceEnds, startSluice, until } from './sluice-process.ts'

let project: Project
let server: RunningSluice
beforeAll(async () => {
  const home = await mkdtemp(join(tmpdir(), 'sluice-smooth-'))
  const environment = { PATH: process.env.PATH, HOME: process.env.HOME, SLUICE_HOME: home }
  const folder = join(import.meta.dirname, '../deploy')
  project = { folder, home, environment, remove: () => rm(home, { recursive: true, force: true }) }
  server = await startSluice(project)
})
afterAll(async () => {
  await server?.stop()
  await project?.remove()
})

it('its definitions are sound: one workflow, with its tag, and without a plan', async () => {
  expect(await sluice(project, 'check')).toMatchObject({ faults: [], workflows: 1 })
  expect(await server.get('/api/v1/workflows/smooth')).toMatchObject({ name: 'smooth', tags: ['sample'], plans: [] })
})

it('sluice run smooth --wait runs it, and its log is there', async () => {
  const run = await sluice<{ id: string; state: string }>(project, 'run', 'smooth', '--wait')
  expect(run.state).toBe('success')
  const logs = await until(
    () => sluice<{ items?: { message: string }[] } | { message: string }[]>(project, 'logs', run.id),
    (lines) => JSON.stringify(lines).includes('smoothed 8 values over windows of 3'),
  )
  expect(JSON.stringify(logs)).toContain('smoothed')
})

it('takes parameters, and refuses wrong ones', async () => {
  const given = ['-p', 'values=[1,2,3]', '-p', 'window=1']
  expect(await sluice(project, 'run', 'smooth', ...given, '--wait')).toMatchObject({ result: [1, 2, 3] })
  await expect(sluiceEnds(project, 'run', 'smooth', '-p', 'window=0')).rejects.toThrow(/ended with 2.*window/s)
})
