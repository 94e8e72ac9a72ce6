// What the tests ask of WorkOS's SDK for Node. Usage: node peer.mjs COMMAND [ARGUMENT…], with VAULT_PORT and VAULT_KEY
// in the environment; prints JSON.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { WorkOS } from "@workos-inc/node";

const workos = new WorkOS(process.env.VAULT_KEY, {
  apiHostname: "127.0.0.1",
  https: false,
  port: Number(process.env.VAULT_PORT),
});
const { vault } = workos;
const context = { organizationId: "acme", organization_id: "acme" };
const status = (expected) => (error) => error.status === expected;

async function everyMethod() {
  const called = new Set();
  const spy = new Proxy(vault, {
    get(target, name) {
      const value = target[name];
      if (typeof value !== "function") return value;
      called.add(name);
      return value.bind(target);
    },
  });

  const key = await spy.createDataKey({ context });
  assert.deepEqual(key.context, context);
  assert.deepEqual(await spy.decryptDataKey({ keys: key.encryptedKeys }), key.dataKey);
  if (vault.createRekey) {
    const moved = await spy.createRekey({ context: { tenant: "globex" }, encryptedKeys: key.encryptedKeys });
    assert.equal(moved.dataKey, key.dataKey.key);
  }
  const payload = await spy.encrypt("grüße 🙂", context, "row 7");
  assert.equal(await spy.decrypt(payload, "row 7"), "grüße 🙂");
  await assert.rejects(spy.decrypt(payload, "row 8"));
  assert.ok(spy.decode(payload).keys);

  const name = `secret/${randomUUID()}`;
  const created = await spy.createObject({ name, value: "one", context });
  assert.deepEqual(created.context, context);
  assert.equal(created.updatedBy.name, "Peers");
  await assert.rejects(vault.createObject({ name, value: "two", context }), status(409));
  const read = await spy.readObject({ id: created.id });
  assert.equal(read.value, "one");
  assert.deepEqual(read.metadata, created);
  assert.deepEqual(await spy.readObjectByName(name), read);
  assert.equal((await spy.describeObject({ id: created.id })).name, name);
  const updated = await spy.updateObject({ id: created.id, value: "two", versionCheck: created.versionId });
  assert.notEqual(updated.metadata.versionId, created.versionId);
  await assert.rejects(
    vault.updateObject({ id: created.id, value: "three", versionCheck: created.versionId }),
    status(409),
  );
  const versions = await spy.listObjectVersions({ id: created.id });
  assert.deepEqual(versions.map((version) => version.currentVersion), [true, false]);
  await vault.createObject({ name: `${name} again`, value: "", context });
  const first = await spy.listObjects({ limit: 1, order: "desc" });
  assert.equal(first.data[0].name, `${name} again`);
  const second = await vault.listObjects({ limit: 1, order: "desc", after: first.listMetadata.after });
  assert.equal(second.data[0].name, name);
  await spy.deleteObject({ id: created.id });
  await assert.rejects(vault.readObject({ id: created.id }), status(404));
  await assert.rejects(vault.createDataKey({ context: {} }), status(422));

  const methods = Object.getOwnPropertyNames(Object.getPrototypeOf(vault)).filter((each) => each !== "constructor");
  return { methods: methods.sort(), called: [...called].sort() };
}

const commands = {
  everyMethod,
  encrypt: (data, associatedData) => vault.encrypt(data, context, associatedData),
  decrypt: (payload, associatedData) => vault.decrypt(payload, associatedData),
};
const [command, ...parameters] = process.argv.slice(2);
console.log(JSON.stringify(await commands[command](...parameters)));
