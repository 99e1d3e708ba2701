import { describe, expect, it } from 'vitest'
import { SluiceError } from '../../errors.ts'
import { FetchFailure, transportFailure } from './fetch-failure.ts'

const withCode = (code: string, message = 'it broke') => Object.assign(new Error(message), { code })
const parserError = (message: string) => Object.assign(new Error(message), { name: 'HTTPParserError' })

describe('a transport error', () => {
  it.each([
    [withCode('ECONNREFUSED'), false, 'refused'],
    [Object.assign(new AggregateError([], ''), { code: 'ENETUNREACH' }), false, 'refused'],
    [withCode('ETIMEDOUT'), false, 'timeout'],
    [withCode('UND_ERR_CONNECT_TIMEOUT'), false, 'timeout'],
    [withCode('CERT_HAS_EXPIRED'), false, 'tls'],
    [withCode('ERR_TLS_CERT_ALTNAME_INVALID'), false, 'tls'],
    [withCode('DEPTH_ZERO_SELF_SIGNED_CERT'), false, 'tls'],
    [withCode('ECONNRESET', 'socket disconnected before secure TLS connection was established'), false, 'tls'],
    [withCode('ECONNRESET'), false, 'reset'],
    [withCode('ECONNRESET'), true, 'truncated'],
    [withCode('UND_ERR_SOCKET'), true, 'truncated'],
    [withCode('UND_ERR_RES_CONTENT_LENGTH_MISMATCH'), true, 'truncated'],
    [withCode('UND_ERR_RES_CONTENT_LENGTH_MISMATCH'), false, 'protocol'],
    [withCode('UND_ERR_SOCKET', 'bad response'), false, 'protocol'],
    [withCode('UND_ERR_SOCKET', 'other side closed'), false, 'reset'],
    [withCode('UND_ERR_HEADERS_OVERFLOW'), false, 'protocol'],
    [parserError('Invalid EOF state'), true, 'truncated'],
    [parserError('Expected HTTP/'), false, 'protocol'],
    ['thrown text', false, 'reset'],
  ] as const)('%s (started: %s) is %s', (thrown, started, failure) => {
    const error = transportFailure(thrown, started)
    expect(error).toMatchObject({ code: 'FETCH_FAILED', failure, retryable: true })
    expect(error.message).toMatch(new RegExp(`^${failure}: .`))
  })

  it('that quotes the other side at length is clipped', () => {
    expect(transportFailure(withCode('ECONNRESET', 'x'.repeat(100_000)), false).message).toHaveLength(507)
  })

  it('of ours stays what it is', () => {
    const blocked = new SluiceError('ADDRESS_BLOCKED', 'no')
    expect(transportFailure(blocked, false)).toBe(blocked)
    const failure = new FetchFailure('dns', 'x')
    expect(transportFailure(failure, true)).toBe(failure)
  })
})
