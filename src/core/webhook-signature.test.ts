import { createHmac } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { verifyDelivery } from './webhook-signature.ts'

const secret = 'a secret of the tests'
const now = 1_770_000_000_000
const body = Buffer.from('{"ref":"main"}')
const sign = (key: string, ...parts: (string | Uint8Array)[]) => {
  const hmac = createHmac('sha256', key)
  for (const part of parts) hmac.update(part)
  return hmac.digest('hex')
}
const seconds = String(now / 1_000)
const ours = (headers: Record<string, string> = {}, key = secret, at = seconds) => ({
  ...{ 'sluice-timestamp': at, 'sluice-signature': sign(key, `${at}.`, body) },
  ...headers,
})
const verify = (headers: Record<string, string | undefined>, given: Uint8Array = body) =>
  verifyDelivery({ headers, body: given }, secret, { toleranceMs: 300_000, now })

describe('a delivery is taken', () => {
  it('that is signed with its time', () => {
    const signature = ours()['sluice-signature']
    expect(verify(ours())).toEqual({ keys: [`signature:${signature}`] })
    expect(verify(ours({ 'sluice-delivery': 'd-1' }))).toEqual({ keys: ['id:d-1', `signature:${signature}`] })
    expect(verify(ours({ 'sluice-signature': `sha256=${signature}` }))).toEqual({ keys: [`signature:${signature}`] })
  })

  it('that is signed as GitHub does', () => {
    // The example of GitHub's documentation.
    const headers = { 'x-hub-signature-256': 'sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17' }
    const verdict = verifyDelivery(
      { headers: { ...headers, 'x-github-delivery': 'g-1' }, body: Buffer.from('Hello, World!') },
      "It's a Secret to Everybody",
      { toleranceMs: 1, now },
    )
    expect(verdict).toEqual({ keys: ['id:g-1', expect.stringMatching(/^signature:757107ea/)] })
  })

  it.each([-300, 0, 300])('whose clock is %i s off', (off) => {
    expect(verify(ours({}, secret, String(now / 1_000 + off)))).toHaveProperty('keys')
  })
})

describe('a delivery is refused', () => {
  it.each<[string, Record<string, string | undefined>, RegExp]>([
    ['without a signature', {}, /is needed/],
    ['with another secret', ours({}, 'another secret of ours'), /not that of the body/],
    [
      'with another time than was signed',
      ours({ 'sluice-timestamp': String(now / 1_000 + 1) }),
      /not that of the body/,
    ],
    ['without a time', { 'sluice-signature': ours()['sluice-signature'] }, /must say when/],
    ['with a time in words', ours({ 'sluice-timestamp': 'now' }), /must say when/],
    ['that is too old', ours({}, secret, String(now / 1_000 - 301)), /301 s from now; 300 s are allowed/],
    ['that is of the future', ours({}, secret, String(now / 1_000 + 301)), /301 s from now/],
    ['in capitals', ours({ 'sluice-signature': ours()['sluice-signature'].toUpperCase() }), /not that of the body/],
    [
      'with a signature that is cut',
      ours({ 'sluice-signature': ours()['sluice-signature'].slice(0, 10) }),
      /not that of the body/,
    ],
    ['with an empty signature', ours({ 'sluice-signature': '' }), /not that of the body/],
    ['signed as GitHub does, without sha256=', { 'x-hub-signature-256': sign(secret, body) }, /not that of the body/],
    [
      'with a wrong signature of ours and a right one of GitHub',
      { ...ours({ 'sluice-signature': 'x' }), 'x-hub-signature-256': `sha256=${sign(secret, body)}` },
      /not that of the body/,
    ],
    ['with an id that is no token', ours({ 'sluice-delivery': 'a b' }), /id of the delivery/],
  ])('%s', (_, headers, why) => {
    expect(verify(headers)).toEqual({ refused: expect.stringMatching(why) })
  })

  it('whose body is another by one bit', () => {
    fc.assert(
      fc.property(fc.nat(body.length * 8 - 1), (bit) => {
        const other = Buffer.from(body)
        other[bit >> 3]! ^= 1 << (bit & 7)
        expect(verify(ours(), other)).toHaveProperty('refused')
      }),
    )
  })
})
