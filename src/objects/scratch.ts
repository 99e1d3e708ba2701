/** A store of which nothing is changed: what is put lies in another one, which is thrown away. */
import type { ObjectStore } from '../ports/objects.ts'

export function scratchOver(base: ObjectStore, scratch: ObjectStore): ObjectStore {
  const holder = async (sha256: string) => ((await scratch.stat(sha256)) ? scratch : base)
  return {
    put: (source, claim) => scratch.put(source, claim),
    open: async (sha256) => (await holder(sha256)).open(sha256),
    read: async (sha256) => (await holder(sha256)).read(sha256),
    stat: async (sha256) => (await holder(sha256)).stat(sha256),
    remove: (sha256) => scratch.remove(sha256),
    list: () => scratch.list(),
    removeStale: (olderThanMs) => scratch.removeStale(olderThanMs),
  }
}
