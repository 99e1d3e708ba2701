/** Nothing from outside leads to an address inside, however it is written: no connection is even begun. */
import { Socket } from 'node:net'
import fc from 'fast-check'
import { afterAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { addressRefusal, parseAllow } from './address-guard.ts'
import { failureOf, open, openTo, serve } from './loopback.fixture.ts'

/** Every connection that this process begins, with TLS or without. */
const connecting = vi.spyOn(Socket.prototype, 'connect')
const made = () => connecting.mock.calls.length
beforeEach(() => {
  connecting.mockClear()
})
afterAll(() => {
  connecting.mockRestore()
})

const nobody = async () => {
  throw Object.assign(new Error('no name'), { code: 'ENOTFOUND' })
}

/** Written in any way that leads to an address which is not public, or to what is no address at all. */
const spellings: [string, string, 'ADDRESS_BLOCKED' | 'INVALID_INPUT'][] = [
  ['loopback', '127.0.0.1', 'ADDRESS_BLOCKED'],
  ['loopback, another', '127.255.255.254', 'ADDRESS_BLOCKED'],
  ['private', '10.0.0.1', 'ADDRESS_BLOCKED'],
  ['private', '172.16.0.1', 'ADDRESS_BLOCKED'],
  ['private', '192.168.1.1', 'ADDRESS_BLOCKED'],
  ['link-local, metadata', '169.254.169.254', 'ADDRESS_BLOCKED'],
  ['CGNAT', '100.64.0.1', 'ADDRESS_BLOCKED'],
  ['CGNAT, last', '100.127.255.255', 'ADDRESS_BLOCKED'],
  ['unspecified', '0.0.0.0', 'ADDRESS_BLOCKED'],
  ['this network', '0.1.2.3', 'ADDRESS_BLOCKED'],
  ['broadcast', '255.255.255.255', 'ADDRESS_BLOCKED'],
  ['multicast', '224.0.0.1', 'ADDRESS_BLOCKED'],
  ['documentation', '192.0.2.1', 'ADDRESS_BLOCKED'],
  ['documentation', '198.51.100.1', 'ADDRESS_BLOCKED'],
  ['documentation', '203.0.113.1', 'ADDRESS_BLOCKED'],
  ['benchmarking', '198.18.0.1', 'ADDRESS_BLOCKED'],
  ['benchmarking, last', '198.19.255.255', 'ADDRESS_BLOCKED'],
  ['reserved', '240.0.0.1', 'ADDRESS_BLOCKED'],
  ['protocol assignments', '192.0.0.8', 'ADDRESS_BLOCKED'],
  ['IPv6 loopback', '[::1]', 'ADDRESS_BLOCKED'],
  ['IPv6 loopback, in full', '[0000:0000:0000:0000:0000:0000:0000:0001]', 'ADDRESS_BLOCKED'],
  ['IPv6 unspecified', '[::]', 'ADDRESS_BLOCKED'],
  ['IPv6 link-local', '[fe80::1]', 'ADDRESS_BLOCKED'],
  ['IPv6 link-local, last', '[febf:ffff::1]', 'ADDRESS_BLOCKED'],
  ['IPv6 site-local', '[fec0::1]', 'ADDRESS_BLOCKED'],
  ['ULA', '[fc00::1]', 'ADDRESS_BLOCKED'],
  ['ULA, metadata', '[fd00:ec2::254]', 'ADDRESS_BLOCKED'],
  ['IPv6 multicast', '[ff02::1]', 'ADDRESS_BLOCKED'],
  ['mapped', '[::ffff:127.0.0.1]', 'ADDRESS_BLOCKED'],
  ['mapped, hex', '[::ffff:7f00:1]', 'ADDRESS_BLOCKED'],
  ['mapped, upper case and in full', '[0:0:0:0:0:FFFF:7F00:0001]', 'ADDRESS_BLOCKED'],
  ['mapped, even of a public one', '[::ffff:8.8.8.8]', 'ADDRESS_BLOCKED'],
  ['translated (SIIT)', '[::ffff:0:127.0.0.1]', 'ADDRESS_BLOCKED'],
  ['compatible', '[::127.0.0.1]', 'ADDRESS_BLOCKED'],
  ['NAT64', '[64:ff9b::7f00:1]', 'ADDRESS_BLOCKED'],
  ['NAT64, dotted', '[64:ff9b::169.254.169.254]', 'ADDRESS_BLOCKED'],
  ['NAT64, local', '[64:ff9b:1::a00:1]', 'ADDRESS_BLOCKED'],
  ['6to4', '[2002:7f00:1::]', 'ADDRESS_BLOCKED'],
  ['Teredo', '[2001:0:1::1]', 'ADDRESS_BLOCKED'],
  ['ORCHID', '[2001:20::1]', 'ADDRESS_BLOCKED'],
  ['IPv6 documentation', '[2001:db8::1]', 'ADDRESS_BLOCKED'],
  ['IPv6 documentation', '[3fff::1]', 'ADDRESS_BLOCKED'],
  ['IPv6 benchmarking', '[2001:2::1]', 'ADDRESS_BLOCKED'],
  ['IPv6 discard', '[100::1]', 'ADDRESS_BLOCKED'],
  ['IPv6 segment routing', '[5f00::1]', 'ADDRESS_BLOCKED'],
  ['IPv6, not yet given out', '[4000::1]', 'ADDRESS_BLOCKED'],
  ['IPv6 with a zone', '[fe80::1%25eth0]', 'INVALID_INPUT'],
  ['IPv6 with a bare zone', '[fe80::1%eth0]', 'INVALID_INPUT'],
  ['decimal', '2130706433', 'ADDRESS_BLOCKED'],
  ['decimal, of a public one', '134744072', 'ADDRESS_BLOCKED'],
  ['octal', '0177.0.0.1', 'ADDRESS_BLOCKED'],
  ['octal, whole', '017700000001', 'ADDRESS_BLOCKED'],
  ['hex', '0x7f.1', 'ADDRESS_BLOCKED'],
  ['hex, whole', '0x7f000001', 'ADDRESS_BLOCKED'],
  ['short', '127.1', 'ADDRESS_BLOCKED'],
  ['shorter', '0', 'ADDRESS_BLOCKED'],
  ['zeros in front', '127.000.000.001', 'ADDRESS_BLOCKED'],
  ['too large a number', '4294967297', 'INVALID_INPUT'],
  ['five parts', '127.0.0.0.1', 'INVALID_INPUT'],
  ['trailing dot', '127.0.0.1.', 'ADDRESS_BLOCKED'],
  ['percent-encoded', '%31%32%37.0.0.1', 'ADDRESS_BLOCKED'],
  ['percent-encoded dots', '127%2e0%2e0%2e1', 'ADDRESS_BLOCKED'],
  ['circled digits', '①②⑦.⓪.⓪.①', 'ADDRESS_BLOCKED'],
  ['full-width digits', '１２７.０.０.１', 'ADDRESS_BLOCKED'],
  ['full-width dots', '127．0．0．1', 'ADDRESS_BLOCKED'],
  ['ideographic dots', '127。0。0。1', 'ADDRESS_BLOCKED'],
  ['soft hyphen within', '127.0.\u00ad0.1', 'ADDRESS_BLOCKED'],
  ['mathematical digits', '𝟏𝟐𝟕.𝟎.𝟎.𝟏', 'ADDRESS_BLOCKED'],
  ['Arabic digits', '١٢٧.٠.٠.١', 'INVALID_INPUT'],
  ['tab within', '127.0\t.0.1', 'ADDRESS_BLOCKED'],
  ['localhost', 'localhost', 'ADDRESS_BLOCKED'],
  ['localhost, circled', 'ⓛⓞⓒⓐⓛⓗⓞⓢⓣ', 'ADDRESS_BLOCKED'],
  ['localhost, trailing dot', 'LocalHost.', 'ADDRESS_BLOCKED'],
  ['credentials', 'user:secret@127.0.0.1', 'INVALID_INPUT'],
  ['credentials that look like a host', 'example.com@127.0.0.1', 'INVALID_INPUT'],
]

const outcome = (url: string, lookup = nobody) =>
  failureOf(open({}, { lookup: async (name) => (name === 'localhost' ? ['127.0.0.1', '::1'] : lookup()) }).get(url))

describe('a URL', () => {
  it.each(spellings)('to %s, %s, is refused: %s', async (_, host, expected) => {
    expect(await outcome(`http://${host}/`)).toBe(expected)
    expect(await outcome(`https://${host}:8443/x`)).toBe(expected)
    expect(made()).toBe(0)
  })

  it.each([
    'file:///etc/passwd',
    'gopher://127.0.0.1:6379/_FLUSHALL',
    'ftp://127.0.0.1/x',
    'data:image/png;base64,AAAA',
    'javascript:alert(1)',
    'ws://127.0.0.1/',
    'blob:http://127.0.0.1/1',
    'unix:/run/x.sock',
  ])('%s is blocked by its scheme', async (url) => {
    expect(await outcome(url)).toBe('ADDRESS_BLOCKED')
    expect(made()).toBe(0)
  })

  it.each([22, 25, 6000, 6667, 10080])('to port %i is blocked, unless the deployment allows it', async (port) => {
    const lookup = async () => ['8.8.8.8']
    expect(await failureOf(open({}, { lookup }).get(`http://mail.test:${port}/`))).toBe('ADDRESS_BLOCKED')
    expect(made()).toBe(0)
    const allowed = open({ allow: [`mail.test:${port}`] }, { lookup: nobody })
    expect(await failureOf(allowed.get(`http://mail.test:${port}/`))).toBe('dns')
  })
})

describe('a name', () => {
  it.each([
    ['that resolves inward', ['127.0.0.1']],
    ['that resolves inward by IPv6', ['::1']],
    ['with a mapped address', ['::ffff:10.0.0.1']],
    ['with a zone', ['fe80::1%eth0']],
    ['with one good and one bad address', ['8.8.8.8', '169.254.169.254']],
    ['with a good address of one family and a bad one of the other', ['8.8.8.8', 'fd00::1']],
    ['with what is no address', ['8.8.8.8', '127.1']],
  ])('%s is refused whole', async (_, addresses) => {
    const client = open({}, { lookup: async () => addresses })
    expect(await failureOf(client.get('http://pictures.test/'))).toBe('ADDRESS_BLOCKED')
    expect(made()).toBe(0)
  })

  it('is looked up once for each connection: what it answers later is not asked', async () => {
    const { port, seen } = await serve((_, response) => response.end('ok'))
    let lookups = 0
    const lookup = async () => {
      lookups += 1
      return lookups === 1 ? ['127.0.0.1'] : ['10.255.255.1']
    }
    const client = open({ allow: ['127.0.0.1/32'] }, { lookup })
    expect((await client.get(`http://rebound.test:${port}/`)).status).toBe(200)
    expect(lookups).toBe(1)
    expect(seen).toHaveLength(1)
    expect((await client.get(`http://rebound.test:${port}/`)).status).toBe(200)
    expect([lookups, made()]).toEqual([1, 1])
  })

  it('that answers inward when it is asked again, for the second connection, is refused then', async () => {
    const { port } = await serve((_, response) => response.setHeader('connection', 'close').end('ok'))
    const answers = [['127.0.0.1'], ['127.0.0.2']]
    const client = open({ allow: ['127.0.0.1/32'] }, { lookup: async () => answers.shift() ?? [] })
    expect((await client.get(`http://rebound.test:${port}/`)).status).toBe(200)
    expect(await failureOf(client.get(`http://rebound.test:${port}/`))).toBe('ADDRESS_BLOCKED')
    expect(made()).toBe(1)
  })
})

describe('a redirect', () => {
  it.each(spellings.filter(([, host]) => !host.includes('\t')))('to %s, %s, is refused', async (_, host) => {
    const { origin } = await serve((_request, response) => {
      response.writeHead(302, { location: Buffer.from(`http://${host}/`).toString('latin1') }).end()
    })
    const lookup = async (name: string) => (name === 'localhost' ? ['127.0.0.1'] : nobody())
    // an address that cannot be read is the fault of the server here, not of the URL
    const allowed = ['ADDRESS_BLOCKED', 'protocol', 'dns']
    expect(allowed).toContain(await failureOf(openTo(origin, {}, { lookup }).get('https://pictures.test/')))
    expect(made()).toBe(1)
  })

  it.each([
    ['file:///etc/passwd', 'ADDRESS_BLOCKED'],
    ['gopher://127.0.0.1:6379/_x', 'ADDRESS_BLOCKED'],
    ['ftp://8.8.8.8/x', 'ADDRESS_BLOCKED'],
    ['data:image/png;base64,AAAA', 'ADDRESS_BLOCKED'],
    ['//user:secret@8.8.8.8/', 'ADDRESS_BLOCKED'],
    ['http://user@8.8.8.8/', 'ADDRESS_BLOCKED'],
    ['//169.254.169.254/latest', 'ADDRESS_BLOCKED'],
    ['\\\\169.254.169.254\\latest', 'ADDRESS_BLOCKED'],
    ['http:/\\/127.0.0.1', 'ADDRESS_BLOCKED'],
    ['http://8.8.8.8:25/', 'ADDRESS_BLOCKED'],
    ['http://', 'protocol'],
    ['http://[::1', 'protocol'],
  ])('to %s is %s', async (location, expected) => {
    const { origin } = await serve((_, response) => response.writeHead(307, { location }).end())
    expect(await failureOf(openTo(origin).get('https://pictures.test/'))).toBe(expected)
    expect(made()).toBe(1)
  })
})

/** The blocks that are not public, as numbers: first address, last address. */
const inside: readonly [number, number][] = [
  [0x00000000, 0x00ffffff],
  [0x0a000000, 0x0affffff],
  [0x64400000, 0x647fffff],
  [0x7f000000, 0x7fffffff],
  [0xa9fe0000, 0xa9feffff],
  [0xac100000, 0xac1fffff],
  [0xc0000000, 0xc00000ff],
  [0xc0000200, 0xc00002ff],
  [0xc0586300, 0xc05863ff],
  [0xc0a80000, 0xc0a8ffff],
  [0xc6120000, 0xc613ffff],
  [0xc6336400, 0xc63364ff],
  [0xcb007100, 0xcb0071ff],
  [0xe0000000, 0xffffffff],
]
/** Public by their number, but of special use: refused, too. */
const special: readonly [number, number][] = [
  [0xc01fc400, 0xc01fc4ff],
  [0xc034c100, 0xc034c1ff],
  [0xc0af3000, 0xc0af30ff],
]
const isIn = (blocks: readonly [number, number][], value: number) =>
  blocks.some(([first, last]) => value >= first && value <= last)
const quad = (value: number) => [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join('.')

const blocked = fc
  .constantFrom(...inside)
  .chain(([first, last]) => fc.oneof(fc.constantFrom(first, last), fc.integer({ min: first, max: last })))

/** A part of a host written in one of the ways that a URL parser takes for a number. */
const numeral = (value: number): fc.Arbitrary<string> =>
  fc
    .tuple(fc.constantFrom(10, 8, 16, 160), fc.integer({ min: 0, max: 3 }))
    .map(([base, zeros]) =>
      base === 10
        ? String(value)
        : base === 8
          ? `0${'0'.repeat(zeros)}${value.toString(8)}`
          : `0${base === 16 ? 'x' : 'X'}${'0'.repeat(zeros)}${value.toString(16)}`,
    )

const dressings: ((text: string) => string)[] = [
  (text) => text,
  (text) => `${text}.`,
  (text) => text.toUpperCase().replaceAll('0X', '0x'),
  (text) => text.replaceAll('.', '。'),
  (text) => text.replaceAll('.', '％2e'.normalize('NFKC')),
  (text) => text.replace(/\d/g, (digit) => String.fromCodePoint(0xff10 + Number(digit))),
  (text) => text.replace(/\d/g, (digit) => `%3${digit}`),
  (text) => text.replace(/\d/g, (digit) => String.fromCodePoint(0x1d7ce + Number(digit))),
]

const spelled = blocked.chain((value) => {
  const bytes = quad(value).split('.').map(Number)
  const [a = 0, b = 0] = bytes
  const groups = [(value >>> 16).toString(16), (value & 0xffff).toString(16)]
  const asVersion4 = fc
    .oneof(
      fc.tuple(...bytes.map(numeral)).map((parts) => parts.join('.')),
      fc.tuple(numeral(a), numeral(b), numeral(value & 0xffff)).map((parts) => parts.join('.')),
      fc.tuple(numeral(a), numeral(value & 0xffffff)).map((parts) => parts.join('.')),
      numeral(value),
    )
    .chain((text) => fc.constantFrom(...dressings).map((dress) => dress(text)))
  const asVersion6 = fc.constantFrom(
    `[::ffff:${quad(value)}]`,
    `[::FFFF:${groups.join(':')}]`,
    `[0:0:0:0:0:ffff:${groups.join(':')}]`,
    `[::${quad(value)}]`,
    `[64:ff9b::${quad(value)}]`,
    `[64:ff9b::${groups.join(':')}]`,
    `[2002:${groups.join(':')}::1]`,
    `[::ffff:0:${groups.join(':')}]`,
  )
  return fc.oneof(asVersion4, asVersion6)
})

describe('every spelling', () => {
  it('of an address inside is refused, and no connection is begun', async () => {
    const lookup = nobody
    const client = open({}, { lookup })
    await fc.assert(
      fc.asyncProperty(spelled, async (host) => {
        expect(await failureOf(client.get(`http://${host}/`))).toBe('ADDRESS_BLOCKED')
        expect(made()).toBe(0)
      }),
      { numRuns: 500 },
    )
  })

  it('of an address inside is refused as a redirect', async () => {
    let location = ''
    const { origin } = await serve((_, response) => response.writeHead(302, { location }).end())
    const client = openTo(origin, {}, { lookup: nobody })
    await client.get('https://pictures.test/').catch(() => {})
    const connections = made()
    await fc.assert(
      fc.asyncProperty(spelled, async (host) => {
        location = encodeURI(`http://${host}/`).replaceAll('%5B', '[').replaceAll('%5D', ']').replaceAll('%25', '%')
        expect(await failureOf(client.get('https://pictures.test/'))).toBe('ADDRESS_BLOCKED')
        expect(made()).toBe(connections)
      }),
    )
  })

  it('of an address inside is refused as the answer to a name', async () => {
    let answer: string[] = []
    const client = open({ circuit: { failures: 1_000 } }, { lookup: async () => answer })
    await fc.assert(
      fc.asyncProperty(blocked, fc.boolean(), async (value, mapped) => {
        answer = ['8.8.8.8', mapped ? `::ffff:${quad(value)}` : quad(value)]
        expect(await failureOf(client.get('http://pictures.test/'))).toBe('ADDRESS_BLOCKED')
        expect(made()).toBe(0)
      }),
    )
  })
})

describe('the guard', () => {
  const none = parseAllow([])

  it('judges every IPv4 address as a table of numbers does', () => {
    const anywhere = fc.integer({ min: 0, max: 0xffffffff })
    const edges = fc.constantFrom(
      ...[...inside, ...special].flatMap(([first, last]) => [first - 1, first, last, last + 1]),
    )
    fc.assert(
      fc.property(fc.oneof(anywhere, edges), (value) => {
        fc.pre(value >= 0 && value <= 0xffffffff)
        const refused = isIn(inside, value) || isIn(special, value)
        expect(addressRefusal(quad(value), none) !== undefined).toBe(refused)
      }),
      { numRuns: 2_000 },
    )
  })

  it('admits of a block that the deployment names that block alone', () => {
    fc.assert(
      fc.property(blocked, fc.integer({ min: 8, max: 32 }), blocked, (base, bits, other) => {
        const policy = parseAllow([`${quad(base)}/${bits}`])
        const size = 2 ** (32 - bits)
        const within = Math.floor(other / size) === Math.floor(base / size)
        expect(addressRefusal(quad(other), policy) === undefined).toBe(within)
        expect(addressRefusal(`::ffff:${quad(other)}`, policy)).toBe('ipv4Mapped')
      }),
      { numRuns: 500 },
    )
  })
})
