// An OPC UA server on npm's node-opcua, for the interoperability tests.
// Arguments: a folder that holds its cert.pem and key.pem, and its port, or 0 for a free one.
// Prints its port when it is ready. Under Objects/Plant, all in one namespace:
//   Bool Int16 UInt32 Int64 Double String  of these types, fixed
//   Setpoint (Double, -50..50 Cel)  writable
//   Counter (Int32)  one more every 100 ms
//   Gone     always BadDeviceFailure
//   Add      a method: two Int32, their sum
import { createServer } from "node:net";
import { join } from "node:path";
import {
  DataType,
  MessageSecurityMode,
  OPCUACertificateManager,
  OPCUAServer,
  SecurityPolicy,
  StatusCodes,
  Variant,
  VariantArrayType,
  makeAccessLevelFlag,
  standardUnits,
} from "node-opcua";

const [folder, wanted] = process.argv.slice(2);

const freePort = () =>
  new Promise((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });

const port = Number(wanted) || (await freePort());
const server = new OPCUAServer({
  port,
  host: "127.0.0.1",
  hostname: "127.0.0.1",
  buildInfo: { productName: "Plant" },
  serverInfo: { applicationUri: "urn:test:node-plant" },
  securityPolicies: [SecurityPolicy.None, SecurityPolicy.Basic256Sha256],
  securityModes: [MessageSecurityMode.None, MessageSecurityMode.SignAndEncrypt],
  certificateFile: join(folder, "cert.pem"),
  privateKeyFile: join(folder, "key.pem"),
  serverCertificateManager: new OPCUACertificateManager({
    rootFolder: join(folder, "pki"),
    automaticallyAcceptUnknownCertificate: true,
  }),
  userManager: { isValidUser: (name, password) => name === "operator" && password === "pa55" },
});
await server.initialize();

const { addressSpace } = server.engine;
const space = addressSpace.registerNamespace("urn:test:plant");
const plant = space.addObject({
  browseName: "Plant",
  nodeId: "s=Plant",
  organizedBy: addressSpace.rootFolder.objects,
});
const variable = (browseName, dataType, value, more = {}) =>
  space.addVariable({
    componentOf: plant,
    browseName,
    nodeId: `s=Plant.${browseName}`,
    dataType: DataType[dataType],
    value: { dataType, arrayType: VariantArrayType.Scalar, value },
    ...more,
  });

variable("Bool", "Boolean", true);
variable("Int16", "Int16", -12345);
variable("UInt32", "UInt32", 4_000_000_000);
variable("Int64", "Int64", [0x00200000, 0x00000001]); // 2^53 + 1, as two halves
variable("Double", "Double", 71.5);
variable("String", "String", "größe ✓");

space.addAnalogDataItem({
  componentOf: plant,
  browseName: "Setpoint",
  nodeId: "s=Plant.Setpoint",
  dataType: "Double",
  engineeringUnitsRange: { low: -50, high: 50 },
  engineeringUnits: standardUnits.degree_celsius,
  accessLevel: makeAccessLevelFlag("CurrentRead | CurrentWrite"),
  userAccessLevel: makeAccessLevelFlag("CurrentRead | CurrentWrite"),
  value: { dataType: "Double", value: 20 },
});

const counter = variable("Counter", "Int32", 0);
let count = 0;
setInterval(() => {
  count += 1;
  counter.setValueFromSource({ dataType: DataType.Int32, value: count });
}, 100);

const gone = variable("Gone", "Double", 0);
gone.setValueFromSource({ dataType: DataType.Double, value: 0 }, StatusCodes.BadDeviceFailure);

const int32 = (name) => ({ name, dataType: DataType.Int32 });
space
  .addMethod(plant, {
    browseName: "Add",
    nodeId: "s=Plant.Add",
    inputArguments: [int32("a"), int32("b")],
    outputArguments: [int32("sum")],
  })
  .bindMethod((inputs, _context, callback) => {
    const value = inputs[0].value + inputs[1].value;
    callback(null, {
      statusCode: StatusCodes.Good,
      outputArguments: [new Variant({ dataType: DataType.Int32, value })],
    });
  });

await server.start();
console.log(port);
