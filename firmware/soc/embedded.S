/* The image and the data set, as the build has written them beside this file's object. */

    .section .rodata
    .balign 4
    .global network_image, network_image_end, network_images, network_labels
network_image:
    .incbin "network.sgp"
network_image_end:
network_images:
    .incbin "images.bin"
network_labels:
    .incbin "labels.bin"
