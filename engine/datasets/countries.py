"""Country names as sources write them, to ISO 3166-1 alpha-2."""

from __future__ import annotations

_TABLE = """
AE United Arab Emirates|AL Albania|AR Argentina|AT Austria|AU Australia|BD Bangladesh|BE Belgium|BG Bulgaria
BR Brazil|CA Canada|CH Switzerland|CL Chile|CN China|CO Colombia|CR Costa Rica|CY Cyprus|CZ Czech Republic
DE Germany|DK Denmark|DZ Algeria|EC Ecuador|EE Estonia|EG Egypt|ES Spain|FI Finland|FR France|GB United Kingdom
GE Georgia|GR Greece|GT Guatemala|HK Hong Kong|HN Honduras|HR Croatia|HU Hungary|ID Indonesia|IE Ireland
IL Israel|IN India|IS Iceland|IT Italy|JP Japan|KE Kenya|KH Cambodia|KR South Korea|KZ Kazakhstan|LT Lithuania
LU Luxembourg|LV Latvia|MA Morocco|MD Moldova|MT Malta|MX Mexico|MY Malaysia|NG Nigeria|NL Netherlands|NO Norway
NZ New Zealand|PA Panama|PE Peru|PH Philippines|PK Pakistan|PL Poland|PR Puerto Rico|PT Portugal|RO Romania
RS Serbia|RU Russia|SA Saudi Arabia|SE Sweden|SG Singapore|SI Slovenia|SK Slovakia|SR Suriname|TH Thailand
TN Tunisia|TR Turkey|TW Taiwan|TZ Tanzania|UA Ukraine|UG Uganda|US United States|UY Uruguay|VE Venezuela
VN Vietnam|ZA South Africa
"""

COUNTRY_CODES: dict[str, str] = {
    entry[3:]: entry[:2] for line in _TABLE.strip().splitlines() for entry in line.split("|")
}
"""ISO code by English name."""
