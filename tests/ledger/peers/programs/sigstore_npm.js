// Checks with the code that verifies signed npm packages: reads a JSON question, ends with status 1 on a lie.
//
//   node sigstore_npm.js <directory with node_modules> < question
const crypto = require("node:crypto");
const path = require("node:path");
const modules = path.join(process.argv[2], "node_modules/@sigstore/verify/dist/tlog");
const { verifyCheckpoint } = require(path.join(modules, "checkpoint.js"));
const { verifyMerkleInclusion } = require(path.join(modules, "merkle.js"));

const question = JSON.parse(require("node:fs").readFileSync(0));
const bytes = (text) => Buffer.from(text, "base64");
const spki = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), bytes(question.public_key)]);
const log = {
  logID: Buffer.concat([Buffer.from(question.key_id, "hex"), Buffer.alloc(28)]),
  publicKey: crypto.createPublicKey({ key: spki, format: "der", type: "spki" }),
  baseURL: `https://${question.origin}`,
};
try {
  const envelope = { checkpoint: { envelope: question.note } };
  const checkpoint = verifyCheckpoint({ inclusionProof: envelope }, [log]);
  for (const [index, entry, proof] of question.inclusion) {
    const inclusionProof = { logIndex: String(index), hashes: proof.map(bytes), ...envelope };
    verifyMerkleInclusion({ inclusionProof, canonicalizedBody: bytes(entry) }, checkpoint);
  }
  console.log(checkpoint.origin, String(checkpoint.logSize));
} catch (error) {
  console.error(String(error));
  process.exit(1);
}
