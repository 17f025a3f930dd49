// A Modbus/TCP server on npm's modbus-serial, for the interoperability tests.
// Prints its port. Unit 1; holding and input registers n hold n; coils are on where n is odd.
import ModbusRTU from "modbus-serial";
import net from "node:net";

const registers = new Uint16Array(100).map((_, n) => n);
const coils = Array.from({ length: 100 }, (_, n) => n % 2 === 1);

const within = (list, address) => {
  if (address >= list.length) throw { modbusErrorCode: 2 };
  return list[address];
};

const device = {
  getInputRegister: (address) => within(registers, address),
  getHoldingRegister: (address) => within(registers, address),
  getCoil: (address) => within(coils, address),
  getDiscreteInput: (address) => within(coils, address),
  setRegister: (address, value) => {
    within(registers, address);
    registers[address] = value;
  },
  setCoil: (address, value) => {
    within(coils, address);
    coils[address] = value;
  },
};

// its own server does not say which port it was given
const probe = net.createServer().listen(0, "127.0.0.1", () => {
  const { port } = probe.address();
  probe.close(() => {
    const server = new ModbusRTU.ServerTCP(device, { host: "127.0.0.1", port, unitID: 1 });
    server.on("initialized", () => console.log(port));
    server.on("socketError", () => {});
    server.on("serverError", (error) => {
      console.error(error.message);
      process.exit(1);
    });
  });
});
