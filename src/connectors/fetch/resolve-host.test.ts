import { expect, it } from 'vitest'
import { dnsLookup } from './resolve-host.ts'

const lookup = dnsLookup()

it.each(['localhost', 'localhost.', 'pictures.localhost'])('%s is loopback, unasked', async (name) => {
  expect(await lookup(name)).toEqual(['127.0.0.1', '::1'])
})

it('fails for what cannot be a name', async () => {
  await expect(lookup('no..name')).rejects.toThrow()
})
