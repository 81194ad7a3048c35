# For Astro users (`astro dev start`). Not tried: neither Docker nor this image was at hand when it was written.
# The image installs requirements.txt, which brings Airflow 3.3.2. Take a runtime tag of Airflow 3.3.
ARG RUNTIME=3.3-2
FROM astrocrpublic.azurecr.io/runtime:${RUNTIME}
