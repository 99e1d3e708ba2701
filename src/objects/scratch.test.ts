import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { describeObjectStore } from '../../test/object-store-conformance.ts'
import { openFiles } from './files.ts'
import { scratchOver } from './scratch.ts'

let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'sluice-scratch-'))
})
afterAll(() => rm(root, { recursive: true, force: true }))
const newStore = async () => openFiles(await mkdtemp(join(root, 'store-')))

describeObjectStore('scratch over an empty store', async () => scratchOver(await newStore(), await newStore()))

describe('scratch', () => {
  it('reads what the store below has, and puts nothing there', async () => {
    const [base, own] = [await newStore(), await newStore()]
    const store = scratchOver(base, own)
    const below = await base.put(Buffer.from('below'), async () => {})
    expect((await store.read(below.sha256)).toString()).toBe('below')
    expect(await store.stat(below.sha256)).toEqual(below)
    const put = await store.put(Buffer.from('above'), async () => {})
    expect((await store.read(put.sha256)).toString()).toBe('above')
    expect(await base.stat(put.sha256)).toBeUndefined()
    await store.remove(below.sha256)
    expect(await base.stat(below.sha256)).toEqual(below)
  })
})
