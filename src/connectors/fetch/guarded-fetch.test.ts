import { describe, expect, it } from 'vitest'
import { failureOf, open, openTo, serve } from './loopback.fixture.ts'

describe('the guard', () => {
  it('refuses what is not public, by address or by name, and connects to nothing', async () => {
    const { port, seen } = await serve((_, response) => response.end('secret'))
    const client = open({}, { lookup: async () => ['127.0.0.1'] })
    for (const host of [
      '127.0.0.1',
      '[::1]',
      '[::ffff:127.0.0.1]',
      'rebound.test',
      'localhost',
      '2130706433',
      '0.0.0.0',
    ]) {
      expect(await failureOf(client.get(`http://${host}:${port}/`))).toBe('ADDRESS_BLOCKED')
    }
    expect(await failureOf(client.get('http://169.254.169.254/latest/meta-data'))).toBe('ADDRESS_BLOCKED')
    expect(seen).toHaveLength(0)
  })

  it('refuses a URL that names the target of a rule itself, also when a connection to it is open', async () => {
    const { origin, port, seen } = await serve((_, response) => response.end('ok'))
    const lookup = async () => ['127.0.0.1']
    const client = openTo(`http://origin.test:${port}`, {}, { lookup })
    await client.get('https://pictures.test/')
    expect(await failureOf(client.get(`http://origin.test:${port}/`))).toBe('ADDRESS_BLOCKED')
    expect(await failureOf(client.get(`${origin}/`))).toBe('ADDRESS_BLOCKED')
    expect(seen).toHaveLength(1)
  })

  it('pins the connection to the address that it checked', async () => {
    const { port, seen } = await serve((_, response) => response.end('ok'))
    const answers = [['127.0.0.1'], ['10.255.255.1']]
    const client = open({ allow: ['127.0.0.0/8'] }, { lookup: async () => answers.shift() ?? [] })
    expect((await client.get(`http://first.test:${port}/`)).status).toBe(200)
    expect(await failureOf(client.get(`http://second.test:${port}/`))).toBe('ADDRESS_BLOCKED')
    expect(seen[0]?.headers.host).toBe(`first.test:${port}`)
  })

  it('admits what the deployment allows', async () => {
    const { port } = await serve((_, response) => response.end('ok'))
    const lookup = async () => ['127.0.0.1']
    const client = open({ allow: [`inside.test:${port}`] }, { lookup })
    expect((await client.get(`http://inside.test:${port}/`)).status).toBe(200)
    expect(await failureOf(client.get(`http://other.test:${port}/`))).toBe('ADDRESS_BLOCKED')
  })

  it('judges every redirect again', async () => {
    const other = await serve((_, response) => response.end('secret'))
    const locations: Record<string, string> = {
      '/metadata': 'http://169.254.169.254/latest',
      '/other': `${other.origin}/`,
      '/disguised': `http://0x7f.1:${other.port}/`,
      '/scheme': 'file:///etc/passwd',
    }
    const { origin } = await serve((request, response) => {
      response.writeHead(302, { location: locations[request.url ?? ''] }).end()
    })
    const client = openTo(origin)
    for (const path of Object.keys(locations)) {
      expect(await failureOf(client.get(`https://pictures.test${path}`))).toBe('ADDRESS_BLOCKED')
    }
    expect(other.seen).toHaveLength(0)
  })

  it('follows redirects of the target to itself, under the name of the rule', async () => {
    const server = await serve((request, response) => {
      if (request.url === '/a') response.writeHead(301, { location: '/b' }).end()
      else if (request.url === '/b') response.writeHead(307, { location: `${server.origin}/c` }).end()
      else if (request.url === '/c') response.writeHead(303, { location: 'https://pictures.test/d' }).end()
      else response.end('here')
    })
    const result = await openTo(server.origin).get('https://pictures.test/a')
    expect(result).toMatchObject({ status: 200, url: 'https://pictures.test/d', redirects: 3 })
    expect(result.rewrittenTo).toBe(`${server.origin}/d`)
  })

  it('does not admit the target to a redirect from elsewhere', async () => {
    const target = await serve((_, response) => response.end('secret'))
    const elsewhere = await serve((_, response) => response.writeHead(302, { location: target.origin }).end())
    const client = openTo(target.origin, { allow: [new URL(elsewhere.origin).host] })
    expect(await failureOf(client.get(`${elsewhere.origin}/`))).toBe('ADDRESS_BLOCKED')
    expect(target.seen).toHaveLength(0)
  })

  it('checks again when a host redirects to itself and its name has changed meanwhile', async () => {
    const { port, seen } = await serve((_, response) => {
      response.writeHead(302, { location: '/again', connection: 'close' }).end()
    })
    const answers = [['127.0.0.1'], ['127.0.0.2']]
    const client = open({ allow: ['127.0.0.1/32'] }, { lookup: async () => answers.shift() ?? [] })
    expect(await failureOf(client.get(`http://rebound.test:${port}/`))).toBe('ADDRESS_BLOCKED')
    expect(seen).toHaveLength(1)
  })

  it('lets a redirect that has no Location, and 304, through as answers', async () => {
    const { origin } = await serve((request, response) => response.writeHead(request.url === '/304' ? 304 : 302).end())
    const client = openTo(origin)
    expect((await client.get('https://pictures.test/304')).status).toBe(304)
    expect((await client.get('https://pictures.test/302')).status).toBe(302)
  })
})
