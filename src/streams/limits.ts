/** What a shard holds at most, in memory and in the durable table. */
export interface ShardLimits {
  /** Records read and not yet passed by the offset. */
  readonly distance: number
  /** UTF-16 units of their values: in memory, ASCII takes a byte each, other text two. */
  readonly distanceBytes: number
  /** Records in one read. */
  readonly readRecords: number
  /** UTF-8 bytes of values in one read. */
  readonly readBytes: number
  /** Bytes of rows that await their commit; beyond it no record enters its steps. */
  readonly rowBytes: number
  /**
   * Records of the durable table that are held in memory; what fails of the distance may come on top. When half as many are
   * held, those that wait for their time, and those that come to a key or group with a long queue, are in the table
   * alone. The shard stops reading only when as many are held and the turn of each is to come.
   */
  readonly waiting: number
  /** UTF-16 units of their values, which are in memory, too. */
  readonly waitingBytes: number
  /** A record that holds up finished ones for longer moves to the durable table. */
  readonly moveAfterMs: number
}

export const defaultLimits: ShardLimits = {
  distance: 4_000,
  distanceBytes: 33_554_432,
  readRecords: 1_000,
  readBytes: 8_388_608,
  rowBytes: 33_554_432,
  waiting: 10_000,
  waitingBytes: 67_108_864,
  moveAfterMs: 500,
}
