"""S3 buckets and ECR repositories, made in moto: weights and images are staged into them."""

# Every handler has the same methods, with all parameters, needed or not.
# ruff: noqa: ARG002

from typing import Any
from urllib.parse import quote

from rehearsal.aws.clients import page
from rehearsal.aws.resources.kind import Aws, Properties, first, given, items, kind, name_of, part, tag_list


class Bucket:
    """aws.s3.Bucket. Its id is its name."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes a bucket."""
        name = name_of(inputs, "bucket")
        place = {} if aws.region == "us-east-1" else {"LocationConstraint": aws.region}
        aws.client("s3").create_bucket(
            Bucket=name,
            **({"CreateBucketConfiguration": place} if place else {}),
            **given(inputs, ObjectLockEnabledForBucket="objectLockEnabled"),
        )
        self.update(aws, name, {}, inputs)
        return name

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Asks whether it is there."""
        aws.client("s3").head_bucket(Bucket=id_)
        return {
            "bucket": id_,
            "arn": f"arn:aws:s3:::{id_}",
            "bucketDomainName": f"{id_}.s3.amazonaws.com",
            "bucketRegionalDomainName": f"{id_}.s3.{aws.region}.amazonaws.com",
            "bucketRegion": aws.region,
            "hostedZoneId": "Z3AQBSTGFYJSTF",
            "websiteDomain": f"s3-website-{aws.region}.amazonaws.com",
            "websiteEndpoint": f"{id_}.s3-website-{aws.region}.amazonaws.com",
            "requestPayer": "BucketOwner",
        }

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Puts its tags, by which a teardown knows it; nothing else of it is in moto but the name."""
        if tags := tag_list(part(new, "tags")):
            aws.client("s3").put_bucket_tagging(Bucket=id_, Tagging={"TagSet": tags})

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it, and what is in it only where `forceDestroy` says so. Its parts go with it."""
        s3 = aws.client("s3")
        if known.get("forceDestroy"):
            for pages in s3.get_paginator("list_object_versions").paginate(Bucket=id_):
                for item in [*pages.get("Versions", []), *pages.get("DeleteMarkers", [])]:
                    s3.delete_object(Bucket=id_, Key=item["Key"], VersionId=item["VersionId"])
        s3.delete_bucket(Bucket=id_)
        for one in page(aws.endpoint, "GET", "store")["resources"]:
            if one["type"].startswith("aws:s3/bucket") and one["id"] == id_:
                page(aws.endpoint, "DELETE", f"store/{quote(one['type'], safe='')}|{quote(id_, safe='')}")


class BucketVersioning:
    """aws.s3.BucketVersioning. Its id is the bucket's name."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Turns versions on or off."""
        self.update(aws, inputs["bucket"], {}, inputs)
        return str(inputs["bucket"])

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Asks the bucket."""
        status = aws.client("s3").get_bucket_versioning(Bucket=id_).get("Status")
        first([status] if status else [])
        before: dict[str, Any] = part(known, "versioningConfiguration")
        return {"bucket": id_, "versioningConfiguration": {**before, "status": status}}

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Turns versions on or off."""
        status = new["versioningConfiguration"]["status"]
        if status != "Disabled":
            aws.client("s3").put_bucket_versioning(Bucket=id_, VersioningConfiguration={"Status": status})

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Suspends versions, the least that S3 can do."""
        aws.client("s3").put_bucket_versioning(Bucket=id_, VersioningConfiguration={"Status": "Suspended"})


class Repository:
    """aws.ecr.Repository. Its id is its name."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes a repository."""
        name = name_of(inputs)
        scanning = inputs.get("imageScanningConfiguration")
        encryption: list[Properties] = items(inputs, "encryptionConfigurations")
        aws.client("ecr").create_repository(
            repositoryName=name,
            tags=tag_list(inputs.get("tags")),
            **given(inputs, imageTagMutability="imageTagMutability"),
            **({"imageScanningConfiguration": given(scanning, scanOnPush="scanOnPush")} if scanning else {}),
            **(
                {
                    "encryptionConfiguration": {
                        "encryptionType": "AES256",
                        **given(encryption[0], encryptionType="encryptionType", kmsKey="kmsKey"),
                    }
                }
                if encryption
                else {}
            ),
        )
        return name

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        found = aws.client("ecr").describe_repositories(repositoryNames=[id_])["repositories"]
        repository = first(found)
        return {
            "name": id_,
            "arn": repository["repositoryArn"],
            "registryId": repository["registryId"],
            "repositoryUrl": repository["repositoryUri"],
        }

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Changes whether tags may move and whether images are scanned."""
        ecr = aws.client("ecr")
        if new.get("imageTagMutability"):
            ecr.put_image_tag_mutability(repositoryName=id_, imageTagMutability=new["imageTagMutability"])
        scanning = new.get("imageScanningConfiguration")
        if scanning:
            scan = given(scanning, scanOnPush="scanOnPush")
            ecr.put_image_scanning_configuration(repositoryName=id_, imageScanningConfiguration=scan)

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it, and its images only where `forceDelete` says so."""
        aws.client("ecr").delete_repository(repositoryName=id_, force=bool(known.get("forceDelete")))


KINDS = (
    kind(
        "aws:s3/bucket:Bucket",
        Bucket(),
        "bucket bucketPrefix bucketNamespace objectLockEnabled",
        "s3.PutBucketTagging",
        name_length=63,
        lower=True,
    ),
    kind(
        "aws:s3/bucketVersioning:BucketVersioning",
        BucketVersioning(),
        "bucket expectedBucketOwner",
        "s3.PutBucketVersioning",
    ),
    kind(
        "aws:ecr/repository:Repository",
        Repository(),
        "name encryptionConfigurations",
        "ecr.PutImageTagMutability ecr.PutImageScanningConfiguration",
        name_length=256,
        lower=True,
    ),
)
