import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { expect, it } from 'vitest'
import { serve } from './loopback.fixture.ts'

it('no proxy of the environment is asked, even when Node is told to use it', async () => {
  const origin = await serve((_, response) => response.end('straight'))
  const proxy = await serve((_, response) => response.end('by proxy'))
  const program = `
    import { get } from 'node:http'
    import { text } from 'node:stream/consumers'
    import { fetchSettings, openFetch } from ${JSON.stringify(new URL('./fetch.ts', import.meta.url).href)}
    const settings = fetchSettings.parse({ kind: 'fetch', allow: [${JSON.stringify(new URL(origin.origin).host)}] })
    const client = openFetch(settings, { clock: { now: Date.now }, random: Math.random })
    const { body } = await client.get(${JSON.stringify(`${origin.origin}/`)})
    const other = await new Promise((resolve) => get(${JSON.stringify(`${origin.origin}/`)}, (answer) => resolve(text(answer))))
    console.log(String(body), '|', await other)
    await client.close()`
  const environment = {
    HTTP_PROXY: proxy.origin,
    http_proxy: proxy.origin,
    ALL_PROXY: proxy.origin,
    NODE_USE_ENV_PROXY: '1',
  }
  const child = spawn(process.execPath, ['--input-type=module-typescript', '--eval', program], {
    env: { PATH: process.env.PATH, ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [printed] = await Promise.all([text(child.stdout), once(child, 'exit')])
  // what Node itself does shows that the proxy was there to be asked
  expect(printed.trim()).toBe('straight | by proxy')
  expect(proxy.seen).toHaveLength(1)
})
