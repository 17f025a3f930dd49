// Reads lines of JSON, {"decode": base64} or {"encode": payload}, and answers each with one.
import { createInterface } from 'node:readline';
import sparkplug from 'sparkplug-payload';

const codec = sparkplug.get('spBv1.0');
const plain = (_, value) =>
  value && typeof value === 'object' && 'low' in value && 'high' in value
    ? String((BigInt(value.high >>> 0) << 32n) | BigInt(value.low >>> 0))
    : value;

for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  const answer = asked.decode
    ? codec.decodePayload(Buffer.from(asked.decode, 'base64'))
    : Buffer.from(codec.encodePayload(asked.encode)).toString('base64');
  console.log(JSON.stringify(answer, plain));
}
