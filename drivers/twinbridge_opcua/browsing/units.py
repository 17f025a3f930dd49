"""OPC UA engineering units as UCUM codes.

An EUInformation names a unit of UN/ECE Recommendation 20 by the characters of its common code,
packed into an integer (OPC UA Part 8, 5.6.4.3), or else only by what people see of it.
"""

from __future__ import annotations

from asyncua import ua

_UN_CEFACT = "http://www.opcfoundation.org/UA/units/un/cefact"

_BY_COMMON_CODE = {
    "CEL": "Cel", "FAH": "[degF]", "KEL": "K",
    "PAL": "Pa", "A97": "hPa", "KPA": "kPa", "MPA": "MPa", "BAR": "bar", "MBR": "mbar",
    "PS": "[psi]", "ATM": "atm",
    "MTR": "m", "KMT": "km", "CMT": "cm", "MMT": "mm", "4H": "um", "INH": "[in_i]",
    "FOT": "[ft_i]", "MTK": "m2", "MTQ": "m3", "LTR": "L", "MLT": "mL",
    "KGM": "kg", "GRM": "g", "MGM": "mg", "TNE": "t", "LBR": "[lb_av]",
    "SEC": "s", "C26": "ms", "B98": "us", "MIN": "min", "HUR": "h", "DAY": "d",
    "HTZ": "Hz", "KHZ": "kHz", "MHZ": "MHz", "RPM": "/min", "RPS": "/s",
    "MTS": "m/s", "KMH": "km/h", "MSK": "m/s2", "2A": "rad/s",
    "VLT": "V", "KVT": "kV", "2Z": "mV", "AMP": "A", "4K": "mA", "OHM": "Ohm", "SIE": "S",
    "WTT": "W", "KWT": "kW", "MAW": "MW", "D46": "V.A", "KVA": "kV.A",
    "JOU": "J", "KJO": "kJ", "WHR": "W.h", "KWH": "kW.h", "MWH": "MW.h",
    "NEW": "N", "NU": "N.m", "DD": "deg", "C81": "rad",
    "MQH": "m3/h", "G53": "m3/min", "MQS": "m3/s", "L2": "L/min", "E32": "L/h", "G51": "L/s",
    "KGS": "kg/s", "E93": "kg/h", "KMQ": "kg/m3", "GL": "g/L", "M1": "mg/L",
    "GP": "mg/m3", "GQ": "ug/m3", "C34": "mol", "D10": "S/m",
    "P1": "%", "59": "[ppm]", "61": "[ppb]", "C62": "1", "Q30": "[pH]",
    "LUX": "lx", "LUM": "lm", "CDL": "cd", "D54": "W/m2", "2N": "dB",
}  # fmt: skip

_BY_DISPLAY = {
    "°C": "Cel", "℃": "Cel", "degC": "Cel", "°F": "[degF]", "℉": "[degF]", "K": "K",
    "psi": "[psi]", "%": "%", "ppm": "[ppm]", "pH": "[pH]", "°": "deg", "Ω": "Ohm",
    "rpm": "/min", "1/min": "/min", "r/min": "/min", "min⁻¹": "/min",
    "µm": "um", "m²": "m2", "m³": "m3", "m³/h": "m3/h", "m³/s": "m3/s", "l/min": "L/min",
    "l/h": "L/h", "l/s": "L/s", "l": "L", "m/s²": "m/s2", "kg/m³": "kg/m3",
    "VA": "V.A", "kVA": "kV.A", "Nm": "N.m", "N·m": "N.m",
    "Wh": "W.h", "kWh": "kW.h", "MWh": "MW.h", "kW·h": "kW.h", "W·h": "W.h", "MW·h": "MW.h",
}  # fmt: skip

_UCUM = frozenset(_BY_COMMON_CODE.values())


def ucum(unit: ua.EUInformation) -> str | None:
    """The UCUM code, or None where it cannot be told for certain."""
    if unit.NamespaceUri == _UN_CEFACT and (code := _BY_COMMON_CODE.get(_common_code(unit.UnitId))):
        return code
    shown = (unit.DisplayName.Text or "").strip()
    return _BY_DISPLAY.get(shown) or (shown if shown in _UCUM else None)


def _common_code(unit_id: int) -> str:
    """4408652 → CEL: up to four characters, the first in the highest byte."""
    packed = (unit_id & 0xFFFFFFFF).to_bytes(4, "big").lstrip(b"\0")
    return packed.decode("ascii", "replace")
