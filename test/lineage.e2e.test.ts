/** Lineage, OpenLineage and reproduction by the command line, on processes as users start them; through a backup, too. */

import { rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { listening } from './loopback.ts'
import {
  type Project,
  projectOf,
  type RunningSluice,
  sluice,
  sluiceEnds,
  startSluice,
  until,
} from './sluice-process.ts'

interface Started {
  readonly runId?: string
  readonly id?: string
}
interface Event {
  readonly eventType: string
  readonly job: { readonly name: string }
  readonly run: { readonly runId: string }
  readonly outputs: readonly { readonly name: string }[]
}
interface Reproduction {
  readonly same: boolean
  readonly tasks: readonly { readonly task: string; readonly same: boolean }[]
}

const events: { event: Event; authorization: string | undefined }[] = []
const receiver = createServer((request, response) => {
  let text = ''
  request.setEncoding('utf8')
  request.on('data', (piece: string) => {
    text += piece
  })
  request.on('end', () => {
    events.push({ event: JSON.parse(text) as Event, authorization: request.headers.authorization })
    response.writeHead(201).end()
  })
})
let project: Project
let server: RunningSluice

beforeAll(async () => {
  const port = await listening(receiver)
  project = await projectOf('../test/programs/lineage-project', {
    SLUICE_SECRET_API: 'correct-horse',
    SLUICE_OPENLINEAGE_URL: `http://127.0.0.1:${port}/api/v1/lineage`,
    SLUICE_OPENLINEAGE_NAMESPACE: 'e2e',
    SLUICE_OPENLINEAGE_SECRET: 'api',
  })
  await writeFile(join(project.folder, 'orders.csv'), 'a,1\nb,2\n')
  server = await startSluice(project)
}, 60_000)
afterAll(async () => {
  await server?.stop()
  receiver.close()
  await project?.remove()
})

async function run(workflow: string, ...params: string[]): Promise<string> {
  const { answer } = await sluiceEnds<Started>(
    project,
    'run',
    workflow,
    ...params.flatMap((one) => ['-p', one]),
    '--wait',
  )
  return (answer.id ?? answer.runId)!
}

it('shows what a run read and wrote, tells it, and reproduces it, also after a restore', {
  timeout: 180_000,
}, async () => {
  const id = await run('pure', 'file=orders.csv')
  const { items } = await sluice<{ items: { task: string; kind: string; what: string; name: string }[] }>(
    project,
    'lineage',
    id,
  )
  expect(items.filter(({ task }) => task === 'load').map(({ kind, what, name }) => `${kind} ${what} ${name}`)).toEqual([
    ...['read file orders.csv', 'write object ', 'write dataset prim.orders'],
  ])
  const graph = await sluice<{ upstream: object[]; versions: object[] }>(project, 'lineage', 'mart.sales')
  expect(graph.upstream).toContainEqual({
    ...{ from: { what: 'dataset', name: 'prim.orders' }, to: { what: 'dataset', name: 'mart.sales' } },
    ...{ workflow: 'pure', lastRunId: id },
  })
  expect(graph.versions).toMatchObject([{ version: 1, rows: 1, runId: id }])

  const told = (type: string, job: string) =>
    until(
      async () => events.filter(({ event }) => event.eventType === type && event.job.name === job),
      (found) => found.length > 0,
    )
  expect((await told('START', 'pure'))[0]!.event.run.runId).toBe(id)
  const [sum] = await told('COMPLETE', 'pure.sum')
  expect(sum!.event.outputs.map(({ name }) => name)).toContain('mart.sales')
  await told('COMPLETE', 'pure')
  expect(new Set(events.map(({ authorization }) => authorization))).toEqual(new Set(['Bearer correct-horse']))

  // While it runs; the file has changed since.
  await writeFile(join(project.folder, 'orders.csv'), 'c,3\n')
  const again = await sluiceEnds<Reproduction>(project, 'reproduce', id)
  expect(again).toMatchObject({ code: 0, answer: { same: true } })
  expect(again.answer.tasks).toHaveLength(10)

  const impure = await run('impure')
  const other = await sluiceEnds<Reproduction>(project, 'reproduce', impure)
  expect(other).toMatchObject({ code: 1, answer: { same: false, tasks: [{ task: 'clocked', same: false }] } })
  const failing = await run('failing')
  await expect(sluiceEnds(project, 'reproduce', failing)).rejects.toThrow(
    /ended with 1: .*cannot be reproduced.*\n.*run it ended failed/s,
  )
  await expect(sluiceEnds(project, 'reproduce', 'nonsense')).rejects.toThrow('There is no run "nonsense"')
  await expect(sluiceEnds(project, 'lineage', 'no.such')).rejects.toThrow('There is no lineage of')

  const file = join(project.folder, 'all.backup')
  await sluice(project, 'backup', file)
  await server.stop()
  await rm(project.home, { recursive: true })
  await sluice(project, 'restore', file)
  expect(await sluiceEnds<Reproduction>(project, 'reproduce', id)).toMatchObject({ code: 0, answer: { same: true } })
})
