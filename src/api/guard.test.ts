import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { refusalOf } from './guard.ts'

const here = { hosts: ['sluice.example.com', 'proxy:8443'], port: 8000 }
const code = (method: string, headers: Record<string, string>, allowed = here) =>
  refusalOf(method, headers, allowed)?.code

describe('the guard', () => {
  it.each([
    'localhost:8000',
    '127.0.0.1:8000',
    '[::1]:8000',
    'LOCALHOST:8000',
    'sluice.example.com',
    'sluice.example.com:9',
    'proxy:8443',
  ])('allows the host %s', (host) => {
    expect(code('POST', { host })).toBeUndefined()
  })

  it.each([
    'evil.example',
    'evil.example:8000',
    'localhost:8001',
    'localhost',
    'localhost.evil.example:8000',
    '127.0.0.1.nip.io:8000',
    '0.0.0.0:8000',
    '[::]:8000',
    'localhost:8000@evil',
    'proxy:8000',
    '',
    'a b',
  ])('refuses the host %j', (host) => {
    expect(code('GET', { host })).toBe('FORBIDDEN_HOST')
  })

  it('refuses a request without a host', () => {
    expect(code('GET', {})).toBe('FORBIDDEN_HOST')
  })

  it.each([
    ['http://localhost:8000', undefined],
    ['http://127.0.0.1:8000', undefined],
    ['https://sluice.example.com', undefined],
    ['http://localhost:3000', 'FORBIDDEN_HOST'],
    ['https://evil.example', 'FORBIDDEN_HOST'],
    ['null', 'FORBIDDEN_HOST'],
    ['file://', 'FORBIDDEN_HOST'],
  ])('with the origin %s: %s', (origin, expected) => {
    expect(code('GET', { host: 'localhost:8000', origin })).toBe(expected)
  })

  it('refuses changes that another site causes, and lets its links be followed', () => {
    const headers = { host: 'localhost:8000', 'sec-fetch-site': 'cross-site' }
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH']) expect(code(method, headers)).toBe('FORBIDDEN_HOST')
    expect(code('GET', headers)).toBeUndefined()
  })

  it('allows no host but its own, whatever is sent', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.domain(), fc.ipV4(), fc.ipV6()), fc.nat(65_535), (name, port) => {
        const host = `${name}:${port}`
        const own = ['localhost:8000', '127.0.0.1:8000', '[::1]:8000']
        expect(code('GET', { host }, { hosts: [], port: 8000 }) === undefined).toBe(own.includes(host.toLowerCase()))
      }),
    )
  })
})
