import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { SluiceError } from '../../errors.ts'
import { addressRefusal, admitAddresses, hostPort, parseAllow, parseTarget } from './address-guard.ts'

const none = parseAllow([])

function codeOf(work: () => unknown): string {
  try {
    work()
  } catch (error) {
    return error instanceof SluiceError ? error.code : String(error)
  }
  return 'nothing thrown'
}

describe('addresses', () => {
  it.each([
    ...['127.0.0.1', '127.255.255.254', '10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', '169.254.169.254'],
    ...[
      '100.64.0.1',
      '100.127.255.255',
      '0.0.0.0',
      '0.1.2.3',
      '224.0.0.1',
      '255.255.255.255',
      '240.0.0.1',
      '192.0.0.1',
    ],
    ...['198.18.0.1', '192.0.2.1', '198.51.100.1', '203.0.113.1', '192.88.99.1'],
    ...[
      '::',
      '::1',
      '::7f00:1',
      '::127.0.0.1',
      '::ffff:8.8.8.8',
      '::ffff:7f00:1',
      'fe80::1',
      'fe80::1%eth0',
      'fc00::1',
    ],
    ...['fd00:ec2::254', 'fec0::1', 'ff02::1', '64:ff9b::7f00:1', '2002:7f00:1::', '2001::1', '100::1', '2001:db8::1'],
    ...['4000::1', 'not an address', '127.1', ''],
  ])('refuses %s', (address) => {
    expect(addressRefusal(address, none)).toBeTypeOf('string')
  })

  it.each(['8.8.8.8', '1.1.1.1', '172.32.0.1', '100.128.0.1', '2606:4700::1111', '2a00:1450:4001::1'])(
    'lets %s through',
    (address) => {
      expect(addressRefusal(address, none)).toBeUndefined()
    },
  )

  it('refuses every private, loopback and link-local IPv4, and each of them mapped into IPv6', () => {
    const byte = fc.integer({ min: 0, max: 255 })
    const special = fc.oneof(
      fc.tuple(fc.constantFrom(0, 10, 127), byte, byte, byte),
      fc.tuple(fc.constant(192), fc.constant(168), byte, byte),
      fc.tuple(fc.constant(169), fc.constant(254), byte, byte),
      fc.tuple(fc.constant(172), fc.integer({ min: 16, max: 31 }), byte, byte),
      fc.tuple(fc.constant(100), fc.integer({ min: 64, max: 127 }), byte, byte),
      fc.tuple(fc.integer({ min: 224, max: 255 }), byte, byte, byte),
    )
    fc.assert(
      fc.property(special, (parts) => {
        const address = parts.join('.')
        expect(addressRefusal(address, none)).toBeTypeOf('string')
        expect(addressRefusal(`::ffff:${address}`, none)).toBeTypeOf('string')
      }),
    )
  })

  it('admits no IPv6 outside 2000::/3', () => {
    const word = fc.integer({ min: 0, max: 0xffff })
    fc.assert(
      fc.property(fc.array(word, { minLength: 8, maxLength: 8 }), (words) => {
        const refusal = addressRefusal(words.map((part) => part.toString(16)).join(':'), none)
        if ((words[0]! & 0xe000) !== 0x2000) expect(refusal).toBeTypeOf('string')
      }),
    )
  })

  it('admits a block that the deployment names, and nothing beside it', () => {
    const policy = parseAllow(['10.1.0.0/16', 'fd00::/8'])
    expect(addressRefusal('10.1.255.1', policy)).toBeUndefined()
    expect(addressRefusal('fd12::1', policy)).toBeUndefined()
    expect(addressRefusal('10.2.0.1', policy)).toBe('private')
    expect(addressRefusal('::ffff:10.1.0.1', policy)).toBe('ipv4Mapped')
  })

  it('refuses a host when one of its addresses is bad, naming it', () => {
    expect(admitAddresses('h.test', ['8.8.8.8', '1.1.1.1'], none)).toEqual(['8.8.8.8', '1.1.1.1'])
    expect(() => admitAddresses('h.test', ['8.8.8.8', '10.0.0.7'], none)).toThrow(
      'h.test is 10.0.0.7, which may not be reached: private',
    )
  })
})

describe('the allow list', () => {
  it('reads hosts with ports and blocks', () => {
    const policy = parseAllow(['files.internal:8080', '10.1.2.3:80', '[::1]:4010', 'a.internal:443', '10.0.0.0/8'])
    expect([...policy.hosts]).toEqual(['files.internal:8080', '10.1.2.3:80', '[::1]:4010', 'a.internal:443'])
    expect(policy.blocks).toHaveLength(1)
    expect(policy.hosts.has(hostPort(new URL('https://a.internal/x')))).toBe(true)
    expect(policy.hosts.has(hostPort(new URL('http://a.internal/x')))).toBe(false)
  })

  it.each(['files.internal', '10.0.0.1', '10.0.0.0/33', 'http://h:80', 'h:80/path', 'u@h:80', ''])(
    'refuses %j',
    (entry) => {
      expect(codeOf(() => parseAllow([entry]))).toBe('CONFIGURATION')
    },
  )
})

describe('targets', () => {
  it.each([
    ['', 'INVALID_INPUT'],
    ['picsum.photos/1/2', 'INVALID_INPUT'],
    ['http://', 'INVALID_INPUT'],
    ['http://user:secret@h.test/', 'INVALID_INPUT'],
    ['http://user@h.test/', 'INVALID_INPUT'],
    ['file:///etc/passwd', 'ADDRESS_BLOCKED'],
    ['ftp://h.test/x', 'ADDRESS_BLOCKED'],
    ['data:image/png;base64,AAAA', 'ADDRESS_BLOCKED'],
    ['javascript:alert(1)', 'ADDRESS_BLOCKED'],
    ['http://2130706433/', 'ADDRESS_BLOCKED'],
    ['http://134744072/', 'ADDRESS_BLOCKED'],
    ['http://0x7f000001/', 'ADDRESS_BLOCKED'],
    ['http://0x08.8.8.8/', 'ADDRESS_BLOCKED'],
    ['http://0177.0.0.1:80/', 'ADDRESS_BLOCKED'],
    ['http://127.1/', 'ADDRESS_BLOCKED'],
    ['http:127.1', 'ADDRESS_BLOCKED'],
    ['http://8.8.8.8./', 'ADDRESS_BLOCKED'],
    ['http://8%2e8.8.8/', 'ADDRESS_BLOCKED'],
    ['http://⑧.8.8.8/', 'ADDRESS_BLOCKED'],
  ])('%s is %s', (text, code) => {
    expect(codeOf(() => parseTarget(text))).toBe(code)
  })

  it('never repeats the credentials', () => {
    expect(() => parseTarget('http://user:hunter2@h.test/')).toThrow(/^(?!.*hunter2)/)
  })

  it('takes plain ones, without the fragment', () => {
    expect(parseTarget(' https://picsum.photos/1/2#x ').href).toBe('https://picsum.photos/1/2')
    expect(parseTarget('http://8.8.8.8:8080/a?b').href).toBe('http://8.8.8.8:8080/a?b')
    expect(parseTarget('//8.8.8.8/a', new URL('http://h.test')).href).toBe('http://8.8.8.8/a')
    expect(parseTarget('/a', new URL('http://8.8.8.8/b')).href).toBe('http://8.8.8.8/a')
    expect(codeOf(() => parseTarget('//0x8.8.8.8/a', new URL('http://h.test')))).toBe('ADDRESS_BLOCKED')
  })
})
