"""Sites at the regions of AWS, Azure and Google Cloud.

Source: tal66/cloud-regions @ 93d997c, MIT: coordinates only; countries are the table below, from the regions'
published names. TRAP: the files of AWS and Google end with latitude;longitude, that of Azure with
longitude;latitude. Azure's staging and preview regions are copies of others and are left out. One error of the
source is corrected: its longitude of `spaincentral` lacks the minus sign and puts Madrid into the sea.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from engine.datasets.sources import read_csv, reject, require

FOLDER = "cloud_region_coords"
LEFT_OUT = ("brazilus", "centraluseuap", "eastus2euap", "eastusstg", "southcentralusstg")
CORRECTED_LONGITUDE = {"azure:spaincentral": -3.4209}

_LAYOUTS = {
    "aws": ("awsData.txt", ["name", "place", "zones", "latitude", "longitude"]),
    "azure": ("azureData.txt", ["name", "place", "city", "zones", "longitude", "latitude"]),
    "gcp": ("gcpData.txt", ["name", "zones", "place", "area", "latitude", "longitude"]),
}

_COUNTRIES = {
    "aws": """
ZA af-south-1|HK ap-east-1|JP ap-northeast-1 ap-northeast-3|KR ap-northeast-2|IN ap-south-1 ap-south-2
SG ap-southeast-1|AU ap-southeast-2 ap-southeast-4|ID ap-southeast-3|MY ap-southeast-5|TH ap-southeast-7
CA ca-central-1 ca-west-1|CN cn-north-1 cn-northwest-1|DE eu-central-1|CH eu-central-2|SE eu-north-1
IT eu-south-1|ES eu-south-2|IE eu-west-1|GB eu-west-2|FR eu-west-3|IL il-central-1|AE me-central-1
BH me-south-1|MX mx-central-1|BR sa-east-1|US us-east-1 us-east-2 us-west-1 us-west-2
""",
    "azure": """
ZA southafricanorth southafricawest
AU australiacentral australiacentral2 australiaeast australiasoutheast
IN centralindia jioindiacentral jioindiawest southindia westindia|HK eastasia|JP japaneast japanwest
KR koreacentral koreasouth|NZ newzealandnorth|SG southeastasia|CA canadacentral canadaeast
FR francecentral francesouth|DE germanynorth germanywestcentral|IT italynorth|IE northeurope
NO norwayeast norwaywest|PL polandcentral|ES spaincentral|SE swedencentral
CH switzerlandnorth switzerlandwest|GB uksouth ukwest|NL westeurope|MX mexicocentral|IL israelcentral
QA qatarcentral|AE uaecentral uaenorth|BR brazilsouth brazilsoutheast
US centralus eastus eastus2 northcentralus southcentralus westcentralus westus westus2 westus3
""",
    "gcp": """
ZA africa-south1|TW asia-east1|HK asia-east2|JP asia-northeast1 asia-northeast2|KR asia-northeast3
IN asia-south1 asia-south2|SG asia-southeast1|ID asia-southeast2
AU australia-southeast1 australia-southeast2|DE europe-west10 europe-west3|PL europe-central2
FI europe-north1|ES europe-southwest1|IT europe-west12 europe-west8|BE europe-west1|GB europe-west2
NL europe-west4|CH europe-west6|FR europe-west9|QA me-central1|SA me-central2|IL me-west1
CA northamerica-northeast1 northamerica-northeast2|MX northamerica-south1|BR southamerica-east1
CL southamerica-west1
US us-central1 us-east1 us-east4 us-east5 us-south1 us-west1 us-west2 us-west3 us-west4
""",
}


def _country_table() -> dict[str, str]:
    table: dict[str, str] = {}
    for cloud, text in _COUNTRIES.items():
        for entry in text.strip().replace("\n", "|").split("|"):
            country, *names = entry.split()
            table |= {f"{cloud}:{name}": country for name in names}
    return table


COUNTRY_OF_REGION: dict[str, str] = _country_table()
"""ISO code by site id, such as `aws:us-east-1`."""


def cloud_sites(data_dir: Path) -> pl.DataFrame:
    """`site_id` (`aws:us-east-1`), `country`, `latitude`, `longitude` of every region, in file order."""
    return pl.concat(_sites_of_cloud(data_dir / FOLDER / name, cloud) for cloud, (name, _) in _LAYOUTS.items())


def _sites_of_cloud(path: Path, cloud: str) -> pl.DataFrame:
    header = _LAYOUTS[cloud][1]
    wanted = {"name": pl.String(), "latitude": pl.Float64(), "longitude": pl.Float64()}
    frame = read_csv(path, wanted, separator=";", header=header)
    require(frame, path, "latitude", pl.col("latitude").is_between(-90, 90), "is not a latitude")
    require(frame, path, "longitude", pl.col("longitude").is_between(-180, 180), "is not a longitude")
    site_id = pl.format(f"{cloud}:{{}}", "name")
    known = frame.filter(~pl.col("name").is_in(LEFT_OUT)).select(
        site_id.alias("site_id"),
        site_id.replace_strict(COUNTRY_OF_REGION, default=None, return_dtype=pl.String).alias("country"),
        "latitude",
        "longitude",
    )
    reject(known["country"].is_null(), known["site_id"], path, "name", "is a region of unknown country")
    corrected = pl.col("site_id").replace_strict(CORRECTED_LONGITUDE, default=None, return_dtype=pl.Float64)
    return known.with_columns(corrected.fill_null(pl.col("longitude")).alias("longitude"))
