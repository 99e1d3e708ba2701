/**
 * The apps on Kafka, by SLUICE_KAFKA_BROKERS alone: real processes and a real broker, both killed while they work, and the
 * account of it recounted from what lies in Kafka.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { symlink, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { KafkaDeployment, patienceMs } from './kafka-deployment.ts'
import { KafkaWorld } from './kafka-world.ts'
import { closed, freePort, listening } from './loopback.ts'
import { named, ownBroker, withoutOwnKafka } from './services/broker.ts'
import type { Broker } from './services/kafka.ts'
import { projectOf, sluice, until } from './sluice-process.ts'

const apps = join(import.meta.dirname, '../apps')

describe.skipIf(withoutOwnKafka)(named('on Kafka'), () => {
  let broker: Broker
  let world: KafkaWorld
  beforeAll(async () => {
    broker = await ownBroker()
    world = await KafkaWorld.open(broker.brokers)
  }, 240_000)
  afterAll(async () => {
    await world?.close()
    await broker?.remove()
  })

  describe('the availability monitor', () => {
    const hits = new Map<string, number>()
    const silent = new Set<Socket>()
    const origin = createServer(answer)
    let monitor: KafkaDeployment
    let web: string

    beforeAll(async () => {
      web = `http://127.0.0.1:${await listening(origin)}`
      const connection = { kind: 'fetch', timeout: '30s', maxBytes: 100_000, allow: ['127.0.0.0/8'] }
      const project = await projectOf('availability', {
        SLUICE_KAFKA_BROKERS: broker.brokers,
        SLUICE_CONNECTION_CHECKS: JSON.stringify(connection),
        SLUICE_LEASE: '5s',
      })
      await symlink(join(apps, 'availability/migrations'), join(project.folder, 'migrations'))
      const config = { definitions: ['workflows/*.ts'], migrations: { availability: 'migrations' } }
      await writeFile(join(project.folder, 'sluice.config.ts'), `export default ${JSON.stringify(config)}\n`)
      monitor = await KafkaDeployment.start(project)
    }, 240_000)
    afterAll(async () => {
      await monitor?.close()
      await closed(origin)
    })

    function answer(request: IncomingMessage, response: ServerResponse): void {
      const path = request.url ?? ''
      hits.set(path, (hits.get(path) ?? 0) + 1)
      if (path === '/silent') {
        silent.add(request.socket)
        request.socket.on('close', () => silent.delete(request.socket))
      } else if (path === '/loop') response.writeHead(302, { location: '/loop' }).end()
      else if (path === '/500') response.writeHead(500).end()
      else response.end('<h1>Welcome home</h1>')
    }

    const further = async (path: string, count: number) => {
      const wanted = (hits.get(path) ?? 0) + count
      await until(
        async () => hits.get(path) ?? 0,
        (now) => now >= wanted,
        patienceMs,
      )
    }

    interface Found {
      readonly site: number
      readonly scheduledAt: string
      readonly checkedAt: string
      readonly failure: string | null
    }
    const published = async () => {
      const records = await world.read('website_availability')
      return records.map((record) => ({ ...record, found: JSON.parse(String(record.value)) as Found }))
    }
    const tickOf = ({ site, scheduledAt }: Found) => `${site} ${scheduledAt}`
    const stored = () => monitor.count('monitoring.results')

    it('keeps each result once while a producer and the broker are killed', { timeout: 400_000 }, async () => {
      const sites = [
        [{ url: `${web}/` }, null],
        [{ url: `${web}/`, regexp: 'Welcome.*home' }, null],
        [{ url: `${web}/other`, regexp: 'Goodbye' }, 'regexp-mismatch'],
        [{ url: `${web}/500` }, 'http-status'],
        [{ url: `${web}/loop` }, 'redirect-loop'],
        [{ url: `${web}/silent` }, 'timeout'],
        [{ url: `http://127.0.0.1:${await freePort()}/` }, 'refused'],
      ] as const
      const added = await fetch(`${monitor.server.url}/api/v1/sites/import`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ sites: sites.map(([site]) => ({ ...site, interval: 5 })) }),
      })
      expect(added.status).toBe(201)
      await until(
        () => monitor.count('(select distinct site from monitoring.results) sites'),
        (count) => count === sites.length,
        patienceMs,
      )

      // In the middle of a check: one site is silent.
      await until(
        async () => silent.size,
        (open) => open > 0,
        patienceMs,
      )
      const killed = await monitor.kill('shard')
      await further('/', 2)
      await broker.kill()
      await further('/', 1)
      await broker.start()
      const before = await stored()
      await until(stored, (count) => count >= before + sites.length, patienceMs)
      expect(monitor.processes('shard')).not.toContain(killed)

      await monitor.rows('update monitoring.sites set active = false')
      for (const socket of silent) socket.destroy()
      // As of one instant each shard has no site left, and nothing under way: it begins nothing any more.
      await until(
        () =>
          monitor.count(`sluice.shards where stream = 'check-sites' and (items <> 0 or in_flight <> 0 or parked <> 0)`),
        (count) => count === 0,
        patienceMs,
      )
      const checks = await monitor.until('check-sites', ({ pending }) => pending === 0)
      const records = await published()
      const results = await monitor.until(
        'website-results',
        ({ received, pending }) => received >= records.length && pending === 0,
      )

      // Delivered again after a crash is the same record, with the same id; the first of them is what is stored.
      const firsts = new Map<string, Found>()
      for (const { found } of records) if (!firsts.has(tickOf(found))) firsts.set(tickOf(found), found)
      const rows = await monitor.rows<{ site: number; scheduled_at: Date; checked_at: Date; failure: string | null }>(
        'select site, scheduled_at, checked_at, failure from monitoring.results',
      )
      const kept = rows.map(({ site, scheduled_at, checked_at, failure }): Found => {
        return { site, scheduledAt: scheduled_at.toISOString(), checkedAt: checked_at.toISOString(), failure }
      })
      const plain = ({ site, scheduledAt, checkedAt, failure }: Found) =>
        [site, scheduledAt, checkedAt, failure].join(' ')
      expect(kept.map(plain).sort()).toEqual([...firsts.values()].map(plain).sort())
      expect(new Set(records.map(({ headers }) => headers['sluice-record-id'])).size).toBe(firsts.size)
      const [sums] = await monitor.rows('select sum(checks)::int as checks from monitoring.days')
      expect(sums).toEqual({ checks: firsts.size })
      expect(results).toMatchObject({ received: records.length, rejected: 0, dead: 0, filtered: 0 })
      expect(results.written + results.duplicate).toBe(records.length)
      expect(checks).toMatchObject({ pending: 0, rejected: 0, dead: 0 })

      // Each failed in its own way, whenever it was asked; and lies in one partition, in the order of its ticks.
      for (const [index, [, failure]] of sites.entries()) {
        const own = records.filter(({ found }) => found.site === index + 1)
        expect(new Set(own.map(({ partition }) => partition)).size).toBe(1)
        const ticks = [...new Set(own.map(({ found }) => found.scheduledAt))]
        expect(ticks).toEqual(ticks.toSorted())
        const classes = new Set(own.map(({ found }) => found.failure))
        // A busy machine may be late with any of them, and what was silent to the last was reset.
        expect([...classes].filter((one) => one !== failure && one !== 'reset' && one !== 'timeout')).toEqual([])
        expect(classes).toContain(failure)
      }
      // Nothing of it went through the tables of topics.
      expect(await monitor.count('sluice.topic_records')).toBe(0)
      expect(await monitor.count('sluice.kafka_outbox')).toBe(0)
      expect(await monitor.breaches({ otherSinks: ['check-sites', 'website-results'] })).toEqual([])
    })
  })

  describe('the image job', () => {
    let origin: ChildProcess
    let deployed: KafkaDeployment

    beforeAll(async () => {
      const main = join(apps, 'images/origin/main.ts')
      origin = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', main], {
        stdio: ['pipe', 'pipe', 'inherit'],
      })
      const [line] = await once(origin.stdout!, 'data')
      const { url } = JSON.parse(String(line)) as { url: string }
      const rewrite = [{ from: 'https://picsum.photos', to: url }]
      const project = await projectOf('images', {
        SLUICE_KAFKA_BROKERS: broker.brokers,
        SLUICE_CONNECTION_WEB: JSON.stringify({ kind: 'fetch', timeout: '60s', rewrite }),
        SLUICE_LEASE: '5s',
      })
      deployed = await KafkaDeployment.start(project)
    }, 240_000)
    afterAll(async () => {
      await deployed?.close()
      origin?.kill()
    })

    it('ends every line of a catalog once though its shard is killed in the middle', { timeout: 400_000 }, async () => {
      const { project } = deployed
      const ended = async () => {
        const [row] = await deployed.rows<{ ended: number }>(
          'select coalesce(sum(received - waiting), 0)::int as ended from sluice.ledger_batches',
        )
        return row!.ended
      }
      await sluice(project, 'catalog', 'add', join(apps, 'images/sample/urls.txt'), '--name', 'sample')
      await until(ended, (count) => count > 0, patienceMs)
      await deployed.kill('shard')
      const left = await ended()
      expect(left).toBeGreaterThan(0)
      expect(left).toBeLessThan(650)
      const totals = await deployed.until('images', ({ received, pending }) => received === 650 && pending === 0)
      expect(totals).toMatchObject({
        ...{ written: 500, duplicate: 99, rejected: 51, filtered: 0, dead: 0 },
        rejectedByReason: { 'http error': 51 },
      })
      expect(await deployed.count(`sluice.documents where collection = 'images'`)).toBe(500)
      const records = await world.read('image-urls')
      const lines = records.map(({ value }) => (JSON.parse(String(value)) as { line: number }).line)
      expect(lines).toHaveLength(650)
      expect(new Set(lines).size).toBe(650)
      expect(await deployed.count('sluice.topic_records')).toBe(0)
      expect(await deployed.breaches({})).toEqual([])
      const again = await sluice(
        project,
        'catalog',
        'add',
        join(apps, 'images/sample/urls.txt'),
        '--name',
        'sample',
        '--wait',
      )
      expect(again).toMatchObject({ lines: 650, known: 650, published: 0, totals: { received: 650, pending: 0 } })
    })
  })
})
